//! Nothing that is committed names folders or hosts of the machine that it was written on.

use crate::source::committed_files;
use crate::{Finding, Rule, assert_found, assert_tidy};

/// Folders that only one machine has, and hosts that packages come from: the package managers know
/// theirs, and everybody's are different. In pieces, because this file is looked at too.
fn local_names() -> Vec<String> {
    let folders =
        ["wo/rk", "ro/ot", "ho/me", "Us/ers"].map(|name| format!("/{}/", name.replace('/', "")));
    let hosts = [
        "index.crates|.io",
        "static.crates|.io",
        "registry.npm|js",
        "py|pi.org",
        "python|hosted",
        "arti|factory",
    ];
    folders.into_iter().chain(hosts.map(|host| host.replace('|', ""))).collect()
}

fn local_findings(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for name in local_names() {
            let stands_alone = |at: usize| {
                let before = line[..at].chars().next_back();
                !name.starts_with('/')
                    || !before.is_some_and(|c| c.is_alphanumeric() || "._-~}".contains(c))
            };
            if line.match_indices(&name).any(|(at, _)| stands_alone(at)) {
                let message = format!("{name} is nobody else's, leave it out");
                findings.push(Finding {
                    rule: Rule::LocalNames,
                    place: path.to_owned(),
                    line: index + 1,
                    message,
                });
            }
        }
    }
    findings
}

#[test]
fn no_committed_file_names_folders_or_hosts_of_one_machine() {
    let files = committed_files();
    let findings: Vec<Finding> = files
        .iter()
        .flat_map(|(path, bytes)| local_findings(path, &String::from_utf8_lossy(bytes)))
        .collect();
    assert_tidy(Rule::LocalNames, &findings);
}

#[test]
fn folders_and_hosts_of_one_machine_are_found() {
    for name in local_names() {
        let text = format!("fine\nsee \"{name}x\"");
        let message = format!("a.md (line 2): {name} is nobody else's, leave it out");
        assert_found(&local_findings("a.md", &text), &[&message]);
    }
    let inside = format!("the frame{}is not one, {{root}}{0} neither", local_names()[0]);
    assert_found(&local_findings("a.md", &inside), &[]);
}
