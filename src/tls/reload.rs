//! Contexts that follow their files.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{error::TlsError, time, trust};
use crate::{
    config::{Identity, KeyPassword},
    crypto,
};

/// Something that loads its files anew.
pub trait Reload: Clone + Send + Sync + 'static {
    /// Loads anew now; what does not load leaves the old state in force.
    fn reload(&self) -> Result<(), TlsError>;

    /// Whether a file has changed since the last attempt, or a revocation list has become stale.
    fn is_due(&self) -> bool;

    /// How long until a revocation list becomes stale.
    fn stale_in(&self) -> Option<Duration>;
}

/// Reloads `target` whenever it is due, looking every `interval`; for ever. Logs what happens.
pub async fn watch<T: Reload>(target: T, interval: Duration) {
    loop {
        let stale = target.stale_in().filter(|left| !left.is_zero());
        let wait = stale.map_or(interval, |left| interval.min(left + Duration::from_secs(1)));
        tokio::time::sleep(wait.max(MIN_WAIT)).await;
        let target = target.clone();
        // Files may be on a slow disk, and reading system roots takes 20 ms.
        let looked = tokio::task::spawn_blocking(move || {
            if target.is_due() {
                // Logged and counted inside; the old context stays.
                let _ = target.reload();
            }
        });
        if looked.await.is_err() {
            log::error!("TLS: a reload panicked; the old files stay in force");
        }
    }
}

/// Between two looks, whatever is configured.
const MIN_WAIT: Duration = Duration::from_millis(10);

/// How reloads went since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReloadCounts {
    /// New contexts put into force.
    pub succeeded: u64,
    /// Attempts that left the old context in force.
    pub failed: u64,
}

/// What can be loaded from settings that name files.
pub(super) trait Load: Sized {
    type Settings;
    fn load(settings: &Self::Settings) -> Result<Self, TlsError>;
    fn files(settings: &Self::Settings) -> Vec<PathBuf>;
    fn warnings(&self) -> &[String];
    /// When it must be loaded anew though no file has changed.
    fn rebuild_at(&self) -> Option<i64>;
}

/// The loaded state in force, replaced as a whole.
#[derive(Debug)]
pub(super) struct Live<L: Load> {
    pub(super) settings: L::Settings,
    current: RwLock<Arc<L>>,
    /// What the files held at the last attempt, successful or not.
    attempted: Mutex<Attempt>,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// What was seen at an attempt, so that a failure is reported once and not at each look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attempt {
    stamp: Stamp,
    /// The moment of [`Load::rebuild_at`] that had passed by then.
    stale: Option<i64>,
}

type Stamp = [u8; 32];

impl<L: Load> Live<L> {
    pub(super) fn load(settings: L::Settings) -> Result<Self, TlsError> {
        // Before the load: a change in between is seen at the next look.
        let attempt = Attempt { stamp: stamp(&L::files(&settings)), stale: None };
        let current = RwLock::new(Arc::new(L::load(&settings)?));
        let (succeeded, failed) = <(AtomicU64, AtomicU64)>::default();
        Ok(Self { settings, current, attempted: Mutex::new(attempt), succeeded, failed })
    }

    pub(super) fn current(&self) -> Arc<L> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn reload(&self) -> Result<(), TlsError> {
        // Held throughout, so that a signal and the watch do not load at once and in any order.
        let mut attempted = self.attempted.lock().unwrap_or_else(PoisonError::into_inner);
        *attempted = self.seen();
        match L::load(&self.settings) {
            Ok(new) => {
                let old = self.current();
                for warning in new.warnings().iter().filter(|warning| !old.warnings().contains(warning)) {
                    log::warn!("{warning}");
                }
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                self.succeeded.fetch_add(1, Ordering::Relaxed);
                log::info!("TLS: certificates, keys and trust loaded anew");
                Ok(())
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                log::error!("TLS: reload failed, the old files stay in force: {error}");
                Err(error)
            }
        }
    }

    pub(super) fn is_due(&self) -> bool {
        let attempted = *self.attempted.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.seen();
        seen.stamp != attempted.stamp || (seen.stale.is_some() && seen.stale != attempted.stale)
    }

    fn seen(&self) -> Attempt {
        let stale = self.current().rebuild_at().filter(|&at| at < time::now());
        Attempt { stamp: stamp(&L::files(&self.settings)), stale }
    }

    pub(super) fn stale_in(&self) -> Option<Duration> {
        self.current().rebuild_at().map(time::until)
    }

    pub(super) fn counts(&self) -> ReloadCounts {
        ReloadCounts {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// The files of an identity.
pub(super) fn identity_files(identity: &Identity) -> Vec<PathBuf> {
    let mut files = vec![identity.cert_file.clone(), identity.key_file.clone()];
    if let Some(KeyPassword::File(password)) = &identity.key_password {
        files.push(password.clone());
    }
    files
}

/// A digest of what the files hold. Contents rather than times: they are small, and times lie when files are
/// restored, or replaced by links as Kubernetes does.
fn stamp(files: &[PathBuf]) -> Stamp {
    let mut held = Vec::new();
    for path in files {
        if path.is_dir() {
            trust::files(path).unwrap_or_default().iter().for_each(|file| add(&mut held, file));
        } else {
            add(&mut held, path);
        }
    }
    // Files on which nothing can be said count as unchanged.
    crypto::sha256(&held).unwrap_or_default()
}

fn add(held: &mut Vec<u8>, path: &Path) {
    let bytes = std::fs::read(path);
    let len = bytes.as_ref().map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    held.extend_from_slice(format!("{}\0{len}\0", path.display()).as_bytes());
    held.extend_from_slice(&bytes.unwrap_or_default());
}
