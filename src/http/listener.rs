//! Where connections come from.

use std::{
    fmt, fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use listenfd::ListenFd;
use nix::sys::stat::{Mode, umask};
use socket2::Socket;
use thiserror::Error;
use tokio::net::{TcpStream, UnixStream};

use super::backlog::Backlog;
use crate::config::Listen;

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(Backlog),
    /// A unix socket, and its file when that is ours to remove.
    Unix(Backlog, Option<SocketFile>),
}

/// The file of a unix socket; it goes with the listener.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A connection and where it came from.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// Why the bridge can't listen.
#[derive(Debug, Error)]
pub enum BindError {
    /// The address can't be had.
    #[error("{key}: {address}: {source}{hint}")]
    Address {
        /// The key that names it.
        key: &'static str,
        /// As configured.
        address: String,
        /// What the system said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// Socket activation without a socket.
    #[error("server.listen: systemd: {0}; start mcp-bridge from a .socket unit with one socket")]
    Systemd(String),
}

impl Listener {
    /// Binds what the configuration names.
    ///
    /// Must run inside a Tokio runtime.
    pub fn bind(listen: &Listen) -> Result<Self, BindError> {
        let bound = match listen {
            Listen::Tcp { host, port } => bind_tcp(host.as_deref(), *port),
            Listen::Unix { path, mode } => bind_unix(path, *mode),
            Listen::Systemd => return from_systemd(),
        };
        bound.map_err(|source| unbound("server.listen", listen, source))
    }

    /// Binds the address of `key`.
    ///
    /// Must run inside a Tokio runtime.
    pub fn bind_address(key: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        let bound = std::net::TcpListener::bind(address).and_then(listening);
        bound.map_err(|source| unbound(key, &address, source))
    }

    /// Whether connections carry an IP address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(backlog) => backlog.address().ok()?.as_socket(),
            Self::Unix(..) => None,
        }
    }

    /// The next connection. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(backlog) => {
                let (socket, peer) = backlog.next().await?;
                let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
                Ok(Accepted::Tcp(TcpStream::from_std(socket.into())?, peer))
            }
            Self::Unix(backlog, _) => {
                let (socket, _) = backlog.next().await?;
                UnixStream::from_std(socket.into()).map(Accepted::Unix)
            }
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.local_addr()) {
            (Self::Unix(backlog, _), _) => {
                match backlog.address().ok().as_ref().and_then(|a| a.as_pathname()) {
                    Some(path) => write!(f, "unix:{}", path.display()),
                    None => f.write_str("a unix socket"),
                }
            }
            (Self::Tcp(_), Some(address)) => write!(f, "{address}"),
            (Self::Tcp(_), None) => f.write_str("a socket"),
        }
    }
}

fn unbound(key: &'static str, address: &dyn fmt::Display, source: io::Error) -> BindError {
    BindError::Address { key, address: address.to_string(), hint: hint(&source), source }
}

fn listening(bound: std::net::TcpListener) -> io::Result<Listener> {
    let bound = Socket::from(bound);
    // What it accepts has inherited this.
    bound.set_tcp_nodelay(true)?;
    Backlog::new(bound).map(Listener::Tcp)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: stop it or choose another port",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 and some directories need a privilege: AmbientCapabilities=CAP_NET_BIND_SERVICE or another address"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    }
}

fn bind_tcp(host: Option<&str>, port: u16) -> io::Result<Listener> {
    let bound = match host {
        // `[::]` takes IPv4 too, unless the host has IPv6 turned off.
        None => std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|e| match e.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(e),
            _ => std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        }),
        Some(host) => {
            let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
            std::net::TcpListener::bind(&addresses[..])
        }
    }?;
    listening(bound)
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<Listener> {
    // A socket that a killed process left behind refuses connections; one that answers is in use.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    // Nobody may connect before the mode is what it should be.
    let before = umask(Mode::all());
    let bound = std::os::unix::net::UnixListener::bind(path);
    umask(before);
    let listener = bound?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(Listener::Unix(Backlog::new(listener.into())?, Some(file)))
}

fn from_systemd() -> Result<Listener, BindError> {
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => return Err(BindError::Systemd("no socket was passed in".to_owned())),
        1 => {}
        n => return Err(BindError::Systemd(format!("{n} sockets were passed in"))),
    }
    let failed = |e: io::Error| BindError::Systemd(e.to_string());
    if let Ok(Some(listener)) = passed.take_tcp_listener(0) {
        return listening(listener).map_err(failed);
    }
    match passed.take_unix_listener(0).map_err(failed)? {
        Some(listener) => {
            Backlog::new(listener.into()).map(|backlog| Listener::Unix(backlog, None)).map_err(failed)
        }
        None => Err(BindError::Systemd("the socket is neither TCP nor a unix stream".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_go_out_without_delay() {
        let listener = Listener::bind_address("server.listen", (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let Accepted::Tcp(stream, _) = listener.accept().await.unwrap() else { panic!("not by TCP") };
        assert!(stream.nodelay().unwrap());
    }
}
