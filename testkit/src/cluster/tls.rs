//! Certificates for a cluster with TLS: a certificate authority of its own and a server
//! certificate for the names under which the cluster is reached.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::error::Error;
use crate::server::user::ServerUser;

/// The names in the server's certificate.
const SERVER_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where a cluster's certificates lie.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes the certificates in the folder of a cluster.
    pub(super) fn make(cluster: &Path, user: &ServerUser) -> Result<Certificates, Error> {
        let certificates = Certificates::of(cluster);
        let doing = || format!("making certificates in {}", certificates.folder.display());
        let (authority, server, key) =
            generate().map_err(|error| Error::io(doing())(io::Error::other(error)))?;
        certificates.write(&authority, &server, &key, user).map_err(Error::io(doing()))?;
        Ok(certificates)
    }

    /// The certificates that were made in the folder of a cluster.
    pub(crate) fn of(cluster: &Path) -> Certificates {
        Certificates { folder: cluster.join("tls") }
    }

    fn write(&self, authority: &str, server: &str, key: &str, user: &ServerUser) -> io::Result<()> {
        fs::create_dir(&self.folder)?;
        user.give(&self.folder)?;
        for (path, text) in
            [(self.authority(), authority), (self.server(), server), (self.key(), key)]
        {
            fs::write(&path, text)?;
            // The server refuses a key that others may read; the folder is closed to them anyway.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            user.give(&path)?;
        }
        Ok(())
    }

    /// The authority's certificate, PEM.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The server's certificate, PEM.
    pub(crate) fn server(&self) -> PathBuf {
        self.folder.join("server.crt")
    }

    fn key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// The settings that make a server use the certificates.
    pub(super) fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("ssl", "on".into()),
            ("ssl_cert_file", self.server().to_string_lossy().into_owned()),
            ("ssl_key_file", self.key().to_string_lossy().into_owned()),
        ]
    }
}

/// The authority's certificate, the server's, and the server's key, all in PEM.
fn generate() -> Result<(String, String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "testkit authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(SERVER_NAMES.map(String::from))?;
    params.distinguished_name.push(DnType::CommonName, SERVER_NAMES[0]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = params.signed_by(&key, &authority)?;
    Ok((authority.pem(), server.pem(), key.serialize_pem()))
}
