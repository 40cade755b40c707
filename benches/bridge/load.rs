//! Load on a server, and what it cost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    Error,
    client::{Client, Dialer, Era},
    figures::Latencies,
    process,
};

/// What a slice of load came to.
pub(crate) struct Slice {
    pub(crate) latencies: Latencies,
    /// Requests a second.
    pub(crate) rate: f64,
    /// CPU time of the server, without its children, per request, in µs.
    pub(crate) cpu: f64,
}

/// Clients that are connected and have their sessions.
pub(crate) struct Clients {
    all: Vec<Client>,
    payload: usize,
    /// The ceiling's answers are always the same.
    echoes: bool,
    asked: u64,
}

impl Clients {
    /// Connects clients, a few at a time.
    pub(crate) async fn connect(
        dialer: &Dialer,
        era: Era,
        number: usize,
        payload: usize,
        echoes: bool,
    ) -> Result<Self, Error> {
        let mut clients = Vec::with_capacity(number);
        while clients.len() < number {
            let mut some = JoinSet::new();
            for _ in 0..(number - clients.len()).min(32) {
                let dialer = dialer.clone();
                some.spawn(async move {
                    let mut client = dialer.connect(era).await?;
                    client.open().await?;
                    Ok::<_, Error>(client)
                });
            }
            while let Some(client) = some.join_next().await {
                clients.push(client??);
            }
        }
        Ok(Self { all: clients, payload, echoes, asked: 0 })
    }

    /// Every client asks, and asks again as soon as it has its answer, for as long as `duration`.
    pub(crate) async fn run(&mut self, server: u32, duration: Duration) -> Result<Slice, Error> {
        let barrier = Arc::new(Barrier::new(self.all.len() + 1));
        let padding: Arc<str> = "x".repeat(self.payload).into();
        let (echoes, first) = (self.echoes, self.asked);
        let mut tasks = JoinSet::new();
        for (number, mut client) in self.all.drain(..).enumerate() {
            let (barrier, padding) = (Arc::clone(&barrier), Arc::clone(&padding));
            tasks.spawn(async move {
                barrier.wait().await;
                let end = Instant::now() + duration;
                let mut latencies = Latencies::default();
                let mut id = first;
                while Instant::now() < end {
                    id += 1;
                    let text = format!("{number}-{id}-{padding}");
                    let began = Instant::now();
                    let answer = client.call(id, &text).await?;
                    latencies.push(began.elapsed());
                    if echoes && memchr::memmem::find(&answer, text.as_bytes()).is_none() {
                        return Err(format!("request {id} of client {number} got another's answer").into());
                    }
                }
                Ok::<_, Error>((client, latencies, id))
            });
        }
        barrier.wait().await;
        let (cpu, began) = (process::cpu(server, false), Instant::now());
        let mut latencies = Latencies::default();
        while let Some(done) = tasks.join_next().await {
            let (client, its, id) = done??;
            latencies.extend(&its);
            self.asked = self.asked.max(id);
            self.all.push(client);
        }
        let spent = process::cpu(server, false).saturating_sub(cpu);
        let requests = latencies.len() as f64;
        Ok(Slice {
            rate: requests / began.elapsed().as_secs_f64(),
            cpu: spent.as_secs_f64() * 1e6 / requests,
            latencies,
        })
    }

    /// One call of each client.
    pub(crate) async fn call_once(&mut self) -> Result<(), Error> {
        for client in &mut self.all {
            client.call(1, "once").await?;
        }
        Ok(())
    }

    /// Ends the sessions.
    pub(crate) async fn close(mut self) -> Result<(), Error> {
        for client in &mut self.all {
            client.close().await?;
        }
        Ok(())
    }
}

/// Connections that are kept until a round of handshakes has been measured, since servers differ in how they close them:
/// with an alert or without.
const ROUND: usize = 50;

/// Handshakes, one after the other: CPU time of the server for each in µs, and how many a second.
pub(crate) async fn handshakes(
    dialer: &Dialer,
    server: u32,
    children: bool,
    resume: bool,
    duration: Duration,
) -> Result<(f64, f64), Error> {
    let (mut spent, mut taken, mut made) = (Duration::ZERO, Duration::ZERO, 0.0);
    while taken < duration {
        let cpu = process::cpu_at_rest(server, children).await;
        let began = Instant::now();
        let mut open = Vec::with_capacity(ROUND);
        for _ in 0..ROUND {
            open.push(dialer.handshake(resume).await?);
            made += 1.0;
        }
        taken += began.elapsed();
        spent += process::cpu_at_rest(server, children).await.saturating_sub(cpu);
    }
    Ok((spent.as_secs_f64() * 1e6 / made, made / taken.as_secs_f64()))
}
