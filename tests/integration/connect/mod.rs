//! `connect`: a stdio client reaches a remote server, and is told what went wrong.

mod failures;
mod lines;
mod main_way;
mod session;
mod unreachable;
