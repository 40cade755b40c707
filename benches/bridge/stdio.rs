//! A client of `mcp-bridge connect`: lines on its standard input, lines on its standard output.

use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, ChildStdout},
    time::{Duration, Instant},
};

use crate::{Error, figures::Latencies, process::Process, scene::Server};

pub(crate) struct StdioClient {
    pub(crate) process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    payload: usize,
    /// The ceiling answers everything alike, under the id 1.
    echoes: bool,
    asked: u64,
}

impl StdioClient {
    /// Starts `connect` for this server, and opens its session.
    pub(crate) fn start(bridge: &str, server: &Server, payload: usize, echoes: bool) -> Result<Self, Error> {
        let url = format!("https://localhost:{}/mcp", server.address.port());
        let command = [bridge, "connect", &url, "--ca-cert", &server.ca, "--log-level", "warn"];
        let (process, stdin, stdout) = Process::start_piped(&command)?;
        let mut client = Self { process, stdin, stdout: BufReader::new(stdout), payload, echoes, asked: 0 };
        let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
        client.ask(&format!("{initialize}\n"), r#""result""#)?;
        Ok(client)
    }

    /// Asks, and asks again as soon as it has its answer, for as long as `duration`; how long each took.
    pub(crate) fn run(&mut self, duration: Duration) -> Result<Latencies, Error> {
        let padding = "x".repeat(self.payload);
        let mut latencies = Latencies::default();
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.asked += 1;
            let id = if self.echoes { self.asked } else { 1 };
            let text = format!("{id}-{padding}");
            let call = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}}}}}"#
            ) + "\n";
            latencies.push(self.ask(&call, if self.echoes { &text } else { r#""result""# })?);
        }
        Ok(latencies)
    }

    fn ask(&mut self, line: &str, expected: &str) -> Result<Duration, Error> {
        let began = Instant::now();
        self.stdin.write_all(line.as_bytes())?;
        let mut answer = Vec::new();
        if self.stdout.read_until(b'\n', &mut answer)? == 0 {
            return Err("connect ended".into());
        }
        let took = began.elapsed();
        if memchr::memmem::find(&answer, expected.as_bytes()).is_none() {
            answer.truncate(200);
            return Err(format!("another answer: {}", String::from_utf8_lossy(&answer)).into());
        }
        Ok(took)
    }
}
