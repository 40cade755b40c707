//! Writes the manual pages and the shell completions, made of the definition of the command line:
//!
//!     cargo run --example manual -- DIR      # DIR/man/*.1, DIR/completions/*

use std::{env, fs, io, path::Path};

use clap_complete::{Shell, generate_to};

fn main() -> io::Result<()> {
    let dir = env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: manual DIR"))?;
    let (man, completions) = (Path::new(&dir).join("man"), Path::new(&dir).join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    // The version of OpenSSL is that of the machine where the program runs, not of this one.
    let program = mcp_bridge::cli::definition().version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(program.clone(), man)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut program.clone(), "mcp-bridge", &completions)?;
    }
    Ok(())
}
