//! Keeping a lease alive, and telling dead holders from slow ones.
//!
//! A holder names boot, namespace of processes, process and start time, so that a process on the same machine can prove
//! that the holder is gone and need not wait for the lease to run out. Containers of one machine share the boot, but do
//! not see each other's processes: of those nothing is known.

use std::{sync::Arc, time::Duration};

use thimble_record::{ConnectionId, Epoch, ErrorKind, Failure, RunId};
use thimble_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::collect::now_ms;

/// Renewals per lease: two may be missed.
const RENEWALS_PER_LEASE: i64 = 3;

/// How long after its end a lease is still tried to be renewed while the database does not answer: nobody else can take it
/// then either, and nothing is committed without it.
const MAX_OUTAGE_MS: i64 = 120_000;

/// Shortest wait for one renewal.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// This process as the holder of leases.
pub fn holder() -> String {
    let pid = std::process::id();
    format!("{}/{pid}/{}", machine().unwrap_or_else(|| "unknown".into()), start_time(pid).unwrap_or_default())
}

/// Within which a number of a process means the same process: boot and namespace (namespaces(7)).
fn machine() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let namespace: String = namespace.to_str()?.chars().filter(char::is_ascii_digit).collect();
    Some(format!("{}:{namespace}", boot.trim()))
}

/// Field 22 of `/proc/PID/stat` (proc(5)): clock ticks since boot. The command name in parentheses may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Whether a holder was a process of this machine that has ended. False where that cannot be known.
fn is_dead(holder: &str) -> bool {
    let mut parts = holder.split('/');
    let (Some(its_machine), Some(pid), Some(started)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), started.parse::<u64>()) else { return false };
    machine().is_some_and(|own| own == its_machine) && start_time(pid) != Some(started)
}

/// Releases what dead processes of this machine held. Answers their runs.
pub async fn release_dead(store: &Store) -> Result<Vec<RunId>, StoreError> {
    let now = now_ms();
    let mut runs = Vec::new();
    for holder in store.holders(now).await? {
        if is_dead(&holder) {
            runs.extend(store.expire_holder(&holder, now).await?.into_iter().map(|run| run.id));
        }
    }
    Ok(runs)
}

/// A lease that is renewed until it is dropped. `cancel` fires when the operator asks for it; `lost` holds why the
/// lease was lost, after which nothing may be committed.
pub struct Lease {
    store: Store,
    connection: ConnectionId,
    renewal: tokio::task::JoinHandle<()>,
    lost: Arc<std::sync::Mutex<Option<Failure>>>,
}

impl Lease {
    pub fn keep(
        store: Store,
        connection: ConnectionId,
        epoch: Epoch,
        run: RunId,
        ttl_ms: i64,
        cancel: CancellationToken,
    ) -> Self {
        let lost = Arc::new(std::sync::Mutex::new(None));
        let renewal = tokio::spawn(renew(
            store.clone(),
            connection.clone(),
            epoch,
            holder(),
            run,
            ttl_ms,
            cancel,
            Arc::clone(&lost),
        ));
        Self { store, connection, renewal, lost }
    }

    /// Why the lease was lost, if it was.
    pub fn lost(&self) -> Option<Failure> {
        self.lost.lock().expect("no holder of this lock panics").clone()
    }

    /// Gives it back under `epoch`, which may have been raised above a destination's since the lease was taken.
    pub async fn release(self, epoch: Epoch) -> Result<(), StoreError> {
        self.renewal.abort();
        self.store.release(&self.connection, epoch).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

#[allow(clippy::too_many_arguments, reason = "the values of one spawned task")]
async fn renew(
    store: Store,
    connection: ConnectionId,
    epoch: Epoch,
    holder: String,
    run: RunId,
    ttl_ms: i64,
    cancel: CancellationToken,
    lost: Arc<std::sync::Mutex<Option<Failure>>>,
) {
    let every = Duration::from_millis(u64::try_from(ttl_ms / RENEWALS_PER_LEASE).unwrap_or(1).max(1));
    let mut renewed = now_ms();
    loop {
        tokio::time::sleep(every).await;
        let now = now_ms();
        let result = async {
            // The epoch may have been raised above a destination's since the lease was taken.
            let current =
                store.lease(&connection).await?.filter(|lease| lease.holder.as_deref() == Some(holder.as_str()));
            let epoch = current.map_or(epoch, |lease| lease.epoch);
            store.renew(&connection, epoch, ttl_ms, now).await?;
            store.heartbeat(&run, ttl_ms, now).await
        };
        // A database that was cut off may never answer.
        let answered = tokio::time::timeout(every.max(LEAST_PATIENCE), result).await;
        match answered.unwrap_or_else(|_| Err(StoreError::no_answer())) {
            Ok(cancelled) => {
                renewed = now;
                if cancelled {
                    cancel.cancel();
                }
            }
            // A database that is away costs nothing but time: the lease counts until somebody else takes it.
            Err(StoreError::Unavailable { .. }) if now - renewed < ttl_ms + MAX_OUTAGE_MS => {}
            Err(error) => {
                let failure = match &error {
                    // Whoever took the lease has written this run off.
                    StoreError::Conflict { .. } => {
                        let message = format!("the lease of connection {connection} was lost: {error}");
                        Failure::new(ErrorKind::Refused, message)
                    }
                    error => error.failure(),
                };
                *lost.lock().expect("no holder of this lock panics") = Some(failure);
                cancel.cancel();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_living_process_is_never_taken_for_dead() {
        assert!(!is_dead(&holder()));
        assert!(!is_dead("another-boot/1/1"));
        assert!(!is_dead("nonsense"));
    }

    #[test]
    fn an_ended_process_and_a_reused_number_are_dead() {
        let machine = machine().unwrap();
        assert!(is_dead(&format!("{machine}/{}/1", std::process::id())));
        assert!(is_dead(&format!("{machine}/4294967294/1")));
        let (boot, _) = machine.split_once(':').unwrap();
        assert!(!is_dead(&format!("{boot}:1/4294967294/1")), "a process of another container");
    }
}
