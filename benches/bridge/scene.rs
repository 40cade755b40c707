//! The servers that are measured, each behind the same certificate.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use openssl::ssl::SslVersion;

use crate::{
    Error,
    client::{Dialer, Era},
    process::Process,
};

/// Programs and files of one run.
pub(crate) struct Scene {
    /// The bridge.
    pub(crate) bridge: String,
    /// This program.
    pub(crate) bench: String,
    /// Certificates, as `scripts/make-certs.sh` makes them.
    certs: PathBuf,
    /// For configurations; removed at the end.
    folder: PathBuf,
}

/// In what a bridge differs from the one that is measured most.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// A line in its log for each request.
    Logging,
    /// `mcp.scheduling: inherit`.
    Interrupted,
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
}

impl Server {
    pub(crate) fn dialer(&self) -> Result<Dialer, Error> {
        self.dialer_of(SslVersion::TLS1_3)
    }

    pub(crate) fn dialer_of(&self, version: SslVersion) -> Result<Dialer, Error> {
        Dialer::new(self.address, &self.ca, version)
    }
}

impl Scene {
    pub(crate) fn new(bridge: &str) -> Result<Self, Error> {
        let bench = std::env::current_exe()?.to_string_lossy().into_owned();
        let certs = Path::new("certs-fixtures").canonicalize()?;
        let folder = std::env::temp_dir().join(format!("mcp-bridge-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self { bridge: bridge.to_owned(), bench, certs, folder })
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> String {
        self.certs.join("ca.crt").display().to_string()
    }

    fn config(&self, name: &str, child: &str, variant: Variant) -> Result<String, Error> {
        let requests = variant == Variant::Logging;
        let (certs, folder) = (self.certs.display(), self.folder.display());
        // Where requests are logged, they are to a file, which no reader slows down.
        let output = if requests { format!("{folder}/{name}.log") } else { "stderr".to_owned() };
        let text = format!(
            r#"mode: server
server:
  listen: "127.0.0.1:0"
  max_connections: 20000
  max_body_size: 64MiB
  idle_timeout: 1h
  session:
    max_sessions: 5000
tls:
  enabled: true
  cert_file: "{certs}/server.crt"
  key_file: "{certs}/server.key"
  min_version: "1.2"
  curve_preferences: ["P-256"]
mcp:
  command: "{}"
  args: [{child}]
  scheduling: {}
logging:
  level: {}
  requests: {requests}
  output: "{output}"
"#,
            self.bench,
            if variant == Variant::Interrupted { "inherit" } else { "batch" },
            if requests { "info" } else { "warn" },
        );
        let file = self.folder.join(name);
        fs::write(&file, text)?;
        Ok(file.display().to_string())
    }

    /// The bridge over a legacy child for each session.
    pub(crate) fn bridge(&self) -> Result<Server, Error> {
        self.serve("legacy.yaml", r#""echo""#, Variant::Plain)
    }

    /// The same, with children that may interrupt it.
    pub(crate) fn interrupted_bridge(&self) -> Result<Server, Error> {
        self.serve("interrupted.yaml", r#""echo""#, Variant::Interrupted)
    }

    /// The same, with a line in its log for each request.
    pub(crate) fn logging_bridge(&self) -> Result<Server, Error> {
        self.serve("logging.yaml", r#""echo""#, Variant::Logging)
    }

    /// The bridge over one shared modern child; `None` if this bridge can't have one.
    pub(crate) async fn modern_bridge(&self) -> Result<Option<Server>, Error> {
        let server = self.serve("modern.yaml", r#""echo", "--modern""#, Variant::Plain)?;
        let mut client = server.dialer()?.connect(Era::Modern).await?;
        Ok(client.call(1, "probe").await.is_ok().then_some(server))
    }

    fn serve(&self, name: &str, child: &str, variant: Variant) -> Result<Server, Error> {
        let config = self.config(name, child, variant)?;
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let listen = free.to_string();
        let process = Process::start(&[&self.bridge, "serve", "-c", &config, "--listen", &listen])?;
        process.until_it_listens(free)?;
        Ok(Server { process, address: free, ca: self.ca() })
    }

    /// The ceiling; with a pipe to one child if `pipe`.
    pub(crate) fn ceiling(&self, pipe: bool) -> Result<Server, Error> {
        let config = self.config("ceiling.yaml", r#""echo""#, Variant::Plain)?;
        let mut command = vec![self.bench.as_str(), "ceiling", &config];
        if pipe {
            command.extend(["--pipe", &self.bench]);
        }
        let (process, mut lines) = Process::start_speaking(&command)?;
        let line = lines.find(|line| line.contains("listening on")).ok_or("the ceiling did not start")?;
        let address = line.rsplit(' ').next().ok_or("no address")?.parse()?;
        Ok(Server { process, address, ca: self.ca() })
    }

    /// nginx with the same certificate; `None` where there is none.
    pub(crate) fn nginx(&self) -> Result<Option<Server>, Error> {
        let (folder, certs) = (self.folder.display(), self.certs.display());
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let text = format!(
            r#"worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen {free} ssl; ssl_certificate {certs}/server.crt; ssl_certificate_key {certs}/server.key;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve prime256v1;
    location / {{ return 200 "ok"; }}
  }}
}}
"#
        );
        let file = self.folder.join("nginx.conf");
        fs::write(&file, text)?;
        let file = file.display().to_string();
        let Some(nginx) =
            ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists())
        else {
            return Ok(None);
        };
        let process = Process::start(&[nginx, "-c", &file])?;
        process.until_it_listens(free)?;
        Ok(Some(Server { process, address: free, ca: self.ca() }))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
