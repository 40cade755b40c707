//! `connect`: a stdio client reaches a remote server, and is told what went wrong.

mod credentials;
mod end;
mod failures;
mod hostile;
mod http_sse;
mod lines;
mod main_way;
mod modern;
mod proxy;
mod revisions;
mod session;
mod stream;
mod unreachable;
