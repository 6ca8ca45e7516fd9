//! A schedule that was checked, for one connection or stream.

use sha2::{Digest, Sha256};

use super::{CatchUp, DEFAULT_PAUSE, Overlap, Schedule, ScheduleError, cron::Cron};
use crate::{
    limits::{MAX_INTERVAL, MAX_JITTER, MIN_INTERVAL, MIN_PAUSE},
    span::Span,
};

/// Slots of a cron pattern whose distances are looked at to judge its jitter.
const SAMPLED_SLOTS: usize = 64;

/// What a schedule belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    pub connection: &'a str,
    /// Empty: the connection's own schedule.
    pub stream: &'a str,
}

impl Identity<'_> {
    /// The same on every host and at every time.
    fn seed(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [self.connection, self.stream] {
            // No name holds a zero byte, so that two identities never read alike.
            digest.update(part.as_bytes());
            digest.update([0]);
        }
        digest.finalize().into()
    }
}

/// A schedule that was checked, for one connection or stream. Cheap to make.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) timing: Timing,
    pub(super) catch_up: CatchUp,
    overlap: Overlap,
    jitter_ms: u64,
    seed: [u8; 32],
}

#[derive(Debug, Clone)]
pub(super) enum Timing {
    /// Slots are `phase + k × every`.
    Every {
        every_ms: i64,
        phase_ms: i64,
    },
    Cron(Box<Cron>),
    Continuous {
        pause_ms: i64,
    },
    Manual,
}

impl Schedule {
    /// Checks the schedule and makes it ready to be asked.
    pub fn plan(&self, identity: Identity<'_>) -> Result<Plan, ScheduleError> {
        self.check_kind()?;
        let seed = identity.seed();
        let timing = match self {
            Self { every: Some(every), anchor, .. } => {
                if every.0 < MIN_INTERVAL || every.0 > MAX_INTERVAL {
                    return Err(ScheduleError::Interval { every: *every });
                }
                let every_ms = every.signed_millis();
                let phase_ms = match anchor {
                    Some(anchor) => anchor.timestamp_millis().rem_euclid(every_ms),
                    None => spread(&seed, b"phase", every_ms.unsigned_abs()),
                };
                Timing::Every { every_ms, phase_ms }
            }
            Self { cron: Some(pattern), timezone, .. } => {
                Timing::Cron(Box::new(Cron::parse(pattern, timezone.as_deref())?))
            }
            Self { continuous: true, pause, .. } => {
                let pause = pause.unwrap_or(DEFAULT_PAUSE);
                if pause.0 < MIN_PAUSE || pause.0 > MAX_INTERVAL {
                    return Err(ScheduleError::Pause { pause });
                }
                Timing::Continuous { pause_ms: pause.signed_millis() }
            }
            _ => Timing::Manual,
        };
        let default_overlap = if identity.stream.is_empty() { Overlap::Skip } else { Overlap::Queue };
        let plan = Plan {
            timing,
            catch_up: self.catch_up.unwrap_or_default(),
            overlap: self.overlap.unwrap_or(default_overlap),
            jitter_ms: self.jitter.map_or(0, Span::millis),
            seed,
        };
        plan.check_jitter()?;
        Ok(plan)
    }

    /// One kind, and nothing that belongs to another.
    fn check_kind(&self) -> Result<(), ScheduleError> {
        let Self { every, anchor, cron, timezone, continuous, pause, manual, jitter, overlap, catch_up } = self;
        let kinds = [every.is_some(), cron.is_some(), *continuous, *manual];
        match kinds.into_iter().filter(|given| *given).count() {
            1 => {}
            0 => return Err(ScheduleError::NotOneKind { found: "none" }),
            _ => return Err(ScheduleError::NotOneKind { found: "several" }),
        }
        let by_time = every.is_some() || cron.is_some();
        let rules = [
            ("anchor", anchor.is_some(), every.is_some(), "every"),
            ("timezone", timezone.is_some(), cron.is_some(), "cron"),
            ("pause", pause.is_some(), *continuous, "continuous"),
            ("jitter", jitter.is_some(), by_time, "every` or `cron"),
            ("overlap", overlap.is_some(), by_time, "every` or `cron"),
            ("catch_up", catch_up.is_some(), by_time, "every` or `cron"),
        ];
        match rules.into_iter().find(|(_, given, fits, _)| *given && !fits) {
            Some((setting, _, _, partner)) => Err(ScheduleError::Stray { setting, partner }),
            None => Ok(()),
        }
    }
}

impl Plan {
    /// What becomes of a slot that comes while the connection is running.
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// Whether it starts again when a run ended, and not by the time.
    pub fn is_continuous(&self) -> bool {
        matches!(self.timing, Timing::Continuous { .. })
    }

    /// The first slot after a moment, which for a continuous schedule is the end of the last run. `None`: never.
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        match &self.timing {
            Timing::Every { every_ms, phase_ms } => {
                let done = after_ms.checked_sub(*phase_ms)?.div_euclid(*every_ms);
                done.checked_add(1)?.checked_mul(*every_ms)?.checked_add(*phase_ms)
            }
            Timing::Cron(cron) => cron.next_after(after_ms),
            Timing::Continuous { pause_ms } => after_ms.checked_add(*pause_ms),
            Timing::Manual => None,
        }
    }

    /// When a slot is to start: at its time, or later by its share of the jitter.
    pub fn starts_at(&self, slot_ms: i64) -> i64 {
        if self.jitter_ms == 0 {
            return slot_ms;
        }
        let delay = spread(&self.seed, &slot_ms.to_le_bytes(), self.jitter_ms.saturating_add(1));
        slot_ms.saturating_add(delay)
    }

    fn check_jitter(&self) -> Result<(), ScheduleError> {
        let gap_ms = match &self.timing {
            Timing::Every { every_ms, .. } => *every_ms,
            Timing::Cron(cron) => shortest_gap(cron)?,
            Timing::Continuous { .. } | Timing::Manual => i64::MAX,
        };
        let span = |ms: i64| Span(std::time::Duration::from_millis(ms.unsigned_abs()));
        let jitter = Span(std::time::Duration::from_millis(self.jitter_ms));
        if jitter.0 > MAX_JITTER || jitter.signed_millis() >= gap_ms {
            return Err(ScheduleError::Jitter { jitter, gap: span(gap_ms) });
        }
        Ok(())
    }
}

/// The least distance of slots near a fixed date, so that the same pattern is always judged alike.
fn shortest_gap(cron: &Cron) -> Result<i64, ScheduleError> {
    const FROM_MS: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z
    let mut slot = cron.next_after(FROM_MS).ok_or(ScheduleError::CronNever)?;
    let mut shortest = i64::MAX;
    for _ in 0..SAMPLED_SLOTS {
        let Some(next) = cron.next_after(slot) else { break };
        shortest = shortest.min(next - slot);
        slot = next;
    }
    Ok(shortest)
}

/// A number below `within`, by seed and label.
fn spread(seed: &[u8; 32], label: &[u8], within: u64) -> i64 {
    let mut digest = Sha256::new();
    digest.update(seed);
    digest.update(label);
    let digest: [u8; 32] = digest.finalize().into();
    let (head, _) = digest.split_first_chunk::<8>().expect("a SHA-256 digest has 32 bytes");
    let number = u64::from_le_bytes(*head) % within.max(1);
    i64::try_from(number).expect("spans of a schedule are at most a year of milliseconds")
}
