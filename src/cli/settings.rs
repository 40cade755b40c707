//! Arguments → the keys that they set.

use super::{
    Cli,
    args::{Action, Common, ConnectArgs, HealthArgs, RemoteTls, ServeArgs},
};
use crate::config::{ConfigError, Mode, Options, SettingValue};

/// Everything that the arguments say about the configuration.
pub(super) fn options(cli: &Cli) -> Result<Options, ConfigError> {
    let mut options = Options::default();
    match &cli.action {
        Some(Action::Serve(args)) => serve(args, &mut options),
        Some(Action::Connect(args)) => connect(args, &mut options)?,
        Some(Action::Health(args)) => health(args, &cli.common, &mut options)?,
        Some(Action::Check(_)) | None => {}
    }
    common(&cli.common, &mut options);
    Ok(options)
}

fn common(args: &Common, options: &mut Options) {
    options.text("--log-level", "logging.level", args.log_level.as_ref());
    options.text("--log-format", "logging.format", args.log_format.as_ref());
    options.text("--log-output", "logging.output", args.log_output.as_ref());
    options.text("--fips", "tls.fips", args.fips.then_some(&"required".to_owned()));
    options.text("--min-tls", "tls.min_version", args.min_tls.as_ref());
    options.text("--max-tls", "tls.max_version", args.max_tls.as_ref());
}

fn serve(args: &ServeArgs, options: &mut Options) {
    options.mode = Some(Mode::Server);
    options.text("--listen", "server.listen", args.listen.as_ref());
    options.text("--path", "server.path", args.path.as_ref());
    identity(args.cert.as_ref(), args.key.as_ref(), options);
    if args.cert.is_some() {
        options.set("--cert", "tls.enabled", yes());
    }
    options.text("--client-auth", "tls.client_auth", args.client_auth.as_ref());
    if let Some(file) = &args.client_ca {
        options.set("--client-ca", "tls.client_ca_file", SettingValue::Text(file.clone()));
        options.set("--client-ca", "tls.client_auth", SettingValue::Default("verify".into()));
    }
    if let Some(name) = &args.token_env {
        options.set("--token-env", "auth.type", SettingValue::Text("bearer".into()));
        options.set("--token-env", "auth.bearer.tokens", SettingValue::FromEnv(name.clone()));
    }
    if args.allow_insecure {
        options.set("--allow-insecure", "server.allow_insecure", yes());
    }
    if let Some((command, arguments)) = args.command.split_first() {
        options.set("COMMAND", "mcp.command", SettingValue::Text(command.clone()));
        options.set("COMMAND", "mcp.args", SettingValue::List(arguments.to_vec()));
    }
}

fn connect(args: &ConnectArgs, options: &mut Options) -> Result<(), ConfigError> {
    options.mode = Some(Mode::Client);
    options.text("URL", "client.url", args.url.as_ref());
    remote_tls(&args.tls, options);
    if let Some(name) = &args.token_env {
        bearer("--token-env", "auth.bearer.token_env", name, options);
    }
    if let Some(file) = &args.token_file {
        bearer("--token-file", "auth.bearer.token_file", file, options);
    }
    if !args.headers.is_empty() {
        let headers = args.headers.iter().map(|header| split_header(header)).collect::<Result<_, _>>()?;
        options.set("--header", "client.headers", SettingValue::Entries(headers));
    }
    Ok(())
}

/// A URL says all that is needed, and the file does without options.
fn health(args: &HealthArgs, common: &Common, options: &mut Options) -> Result<(), ConfigError> {
    match (&args.url, &common.config) {
        (Some(_), Some(_)) => Err(ConfigError::command_line("give a URL or -c FILE, not both")),
        (Some(url), None) => {
            options.mode = Some(Mode::Client);
            options.text("URL", "client.url", Some(url));
            remote_tls(&args.tls, options);
            Ok(())
        }
        (None, _) if args.tls != RemoteTls::default() => Err(ConfigError::command_line(
            "options of TLS go with a URL; the bridge of a configuration file is asked without them",
        )),
        (None, _) => Ok(()),
    }
}

fn remote_tls(args: &RemoteTls, options: &mut Options) {
    options.text("--ca-cert", "tls.ca_cert", args.ca_cert.as_ref());
    identity(args.cert.as_ref(), args.key.as_ref(), options);
    options.text("--server-name", "tls.server_name", args.server_name.as_ref());
    if args.insecure_skip_verify {
        options.set("--insecure-skip-verify", "tls.insecure_skip_verify", yes());
    }
}

/// A pair on the command line replaces the file's, with its password.
fn identity(cert: Option<&String>, key: Option<&String>, options: &mut Options) {
    if cert.is_some() && key.is_some() {
        options.set("--key", "tls.key_password", SettingValue::Absent);
        options.set("--key", "tls.key_password_file", SettingValue::Absent);
    }
    options.text("--cert", "tls.cert_file", cert);
    options.text("--key", "tls.key_file", key);
}

/// The token replaces the file's, wherever that comes from.
fn bearer(option: &'static str, key: &str, value: &str, options: &mut Options) {
    options.set(option, "auth.bearer", SettingValue::Absent);
    options.set(option, "auth.type", SettingValue::Text("bearer".into()));
    options.set(option, key, SettingValue::Text(value.to_owned()));
}

/// The value may be a secret, so that errors show nothing of it.
fn split_header(header: &str) -> Result<(String, String), ConfigError> {
    let (name, value) = header.split_once(':').ok_or_else(|| {
        ConfigError::option("--header", "has no colon; write for example --header 'X-Team: blue'")
    })?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn yes() -> SettingValue {
    SettingValue::Text("true".into())
}

impl Options {
    fn text(&mut self, option: &'static str, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.set(option, key, SettingValue::Text(value.clone()));
        }
    }
}
