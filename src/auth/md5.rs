//! The answer to AuthenticationMD5Password.
//!
//! The exchange is weak: MD5 is broken, and what the server stores is enough to log in with. It is
//! here for servers that have no other; the policy in front of it decides whether it may be used.

use crate::crypto::{self, SecretArray, SecretBytes};

/// What the answer begins with.
const PREFIX: &[u8] = b"md5";

/// The content of the PasswordMessage, without its terminating NUL: `md5` and 32 hexadecimal
/// digits.
///
/// In SQL it is `concat('md5', md5(concat(md5(concat(password, user)), salt)))`, as the section
/// *Message Flow* of the protocol's documentation has it. `salt` is the one that the server sent.
pub(crate) fn md5_password(user: &[u8], password: &[u8], salt: [u8; 4]) -> SecretBytes {
    let stored = hex_digest(&[password, user]);
    let answer = hex_digest(&[stored.as_bytes(), &salt]);
    let mut message = SecretBytes::with_capacity(PREFIX.len() + answer.as_bytes().len());
    message.extend_from_slice(PREFIX);
    message.extend_from_slice(answer.as_bytes());
    message
}

/// The digest of the concatenation of `parts`, as lower-case hexadecimal digits.
fn hex_digest(parts: &[&[u8]]) -> SecretArray<32> {
    let digest = SecretArray::new(crypto::md5(parts));
    SecretArray::new(crypto::hex(digest.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::md5_password;

    /// Expected values by PostgreSQL itself:
    /// `SELECT 'md5' || md5(convert_to(md5(password || user), 'UTF8') || salt)`.
    #[test]
    fn s9_14_md5_password_is_what_the_server_computes() {
        let long = ("u".repeat(63), "p".repeat(200));
        for (user, password, salt, expected) in [
            ("alice", "secret", [1, 2, 3, 4], "md598a0412b9c31436fc53776e863350083"),
            ("postgres", "", [0; 4], "md5d8ff6a3a620cdeac77d64d380fea2e5d"),
            (
                "jürgen",
                "pä,=ss wörd",
                [0xff, 0x00, 0x80, 0x27],
                "md5eefe3bf5198791bf0e4e15c3c38008e1",
            ),
            (&long.0, &long.1, *b"salt", "md5f7635c4c0b8e0ad0cd4d9375f1c7d33e"),
        ] {
            let answer = md5_password(user.as_bytes(), password.as_bytes(), salt);
            assert_eq!(answer.as_bytes(), expected.as_bytes(), "{user}");
        }
    }

    #[test]
    fn s9_14_md5_salt_user_and_password_all_matter() {
        let answer = |user: &str, password: &str, salt| {
            md5_password(user.as_bytes(), password.as_bytes(), salt).as_bytes().to_vec()
        };
        let original = answer("alice", "secret", [1, 2, 3, 4]);
        assert_ne!(original, answer("alicf", "secret", [1, 2, 3, 4]));
        assert_ne!(original, answer("alice", "secreu", [1, 2, 3, 4]));
        assert_ne!(original, answer("alice", "secret", [1, 2, 3, 5]));
    }

    #[test]
    fn h37_md5_answer_is_not_printed() {
        assert_eq!(format!("{:?}", md5_password(b"alice", b"secret", [0; 4])), "<secret>");
    }
}
