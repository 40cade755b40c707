//! The certificates of `certs-fixtures`, made when they are missing or old.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::repository;

/// The path of a file in `certs-fixtures`, such as `ca.crt`.
pub(crate) fn cert(file: &str) -> String {
    let path = directory().join(file);
    assert!(path.exists(), "{} is missing", path.display());
    path.into_os_string().into_string().unwrap()
}

/// The script keeps good certificates and locks the folder, so that several test programs can run at once.
fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let script = repository().join("scripts/make-certs.sh");
        let output = Command::new(script).arg("--tests").output().unwrap();
        assert!(output.status.success(), "make-certs.sh: {}", String::from_utf8_lossy(&output.stderr));
        repository().join("certs-fixtures")
    })
}
