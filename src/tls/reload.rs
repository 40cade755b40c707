//! Contexts that follow their files.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openssl::sha::Sha256;

use super::{error::TlsError, time, trust};
use crate::config::{Identity, KeyPassword};

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
        let wait = target.stale_in().map_or(interval, |stale| interval.min(stale + Duration::from_secs(1)));
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
    attempted: Mutex<Stamp>,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

type Stamp = [u8; 32];

impl<L: Load> Live<L> {
    pub(super) fn load(settings: L::Settings) -> Result<Self, TlsError> {
        // Before the load: a change in between is seen at the next look.
        let stamp = stamp(&L::files(&settings));
        let current = RwLock::new(Arc::new(L::load(&settings)?));
        let (succeeded, failed) = <(AtomicU64, AtomicU64)>::default();
        Ok(Self { settings, current, attempted: Mutex::new(stamp), succeeded, failed })
    }

    pub(super) fn current(&self) -> Arc<L> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn reload(&self) -> Result<(), TlsError> {
        // Held throughout, so that a signal and the watch do not load at once and in any order.
        let mut attempted = self.attempted.lock().unwrap_or_else(PoisonError::into_inner);
        *attempted = stamp(&L::files(&self.settings));
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
        let stale = self.current().rebuild_at().is_some_and(|at| at < time::now());
        let attempted = *self.attempted.lock().unwrap_or_else(PoisonError::into_inner);
        stale || attempted != stamp(&L::files(&self.settings))
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
    let mut digest = Sha256::new();
    for path in files {
        if path.is_dir() {
            trust::files(path).unwrap_or_default().iter().for_each(|file| add(&mut digest, file));
        } else {
            add(&mut digest, path);
        }
    }
    digest.finish()
}

fn add(digest: &mut Sha256, path: &Path) {
    let mut head = String::new();
    let bytes = std::fs::read(path);
    let len = bytes.as_ref().map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    // Writing to a string does not fail.
    let _ = write!(head, "{}\0{len}\0", path.display());
    digest.update(head.as_bytes());
    digest.update(&bytes.unwrap_or_default());
}
