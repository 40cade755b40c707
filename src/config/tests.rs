//! Whole files: what loads, what does not, and what the errors say.

mod bad;
mod compat;
mod good;

use std::ffi::OsString;

use super::*;

fn env(name: &str) -> Option<OsString> {
    match name {
        "MCP_AUTH_TOKEN" => Some("t0ken".into()),
        "SECRET" => Some("s3cret value".into()),
        "NUMBER" => Some("42".into()),
        "MODE" => Some("server".into()),
        "YES" => Some("true".into()),
        "VERSION" => Some("1.3".into()),
        "WAIT" => Some("90s".into()),
        "SIZE" => Some("1KiB".into()),
        "LIST" => Some("[a, b]\nmode: client".into()),
        "HOME" => Some("/root".into()),
        _ => None,
    }
}

fn load_as(text: &str, mode: Option<Mode>) -> Result<Config, ConfigError> {
    let options = Options { mode, ..Options::default() };
    parse(Path::new("f.yaml"), text, &options, &env)
}

fn load_text(text: &str) -> Result<Config, ConfigError> {
    load_as(text, None)
}

/// A server that loads, with `more` at its end.
fn server_with(more: &str) -> String {
    format!("mode: server\nmcp: {{command: x}}\n{more}")
}

/// A client that loads, with `more` at its end.
fn client_with(more: &str) -> String {
    format!("mode: client\nclient: {{url: 'https://h/'}}\n{more}")
}

fn serve(text: &str) -> Serve {
    match load_text(text).unwrap().role {
        Role::Serve(serve) => *serve,
        Role::Connect(_) => panic!("a client"),
    }
}

fn connect(text: &str) -> Connect {
    match load_text(text).unwrap().role {
        Role::Connect(connect) => *connect,
        Role::Serve(_) => panic!("a server"),
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let read = |path: &Path| load(Some(path), &Options::default(), &env).unwrap_err().to_string();
    assert!(
        read(Path::new("/nonexistent/c.yaml"))
            .starts_with("/nonexistent/c.yaml: cannot be read: No such file")
    );
    assert!(read(Path::new("/")).starts_with("/: cannot be read: Is a directory"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"mode: server\nx: \xe9\n").unwrap();
    assert!(read(file.path()).contains(":2: the file is not UTF-8"));
    std::fs::write(file.path(), vec![b'#'; 2 << 20]).unwrap();
    assert!(read(file.path()).contains("larger than 1 MiB"));
}

#[test]
fn a_loaded_file_is_remembered() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), server_with("")).unwrap();
    let config = load(Some(file.path()), &Options::default(), &env).unwrap();
    assert_eq!(config.file.as_deref(), Some(file.path()));
}
