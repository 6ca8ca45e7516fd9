//! Which of the waiting runs may start, by what they need and what the host has.
//!
//! What people wait for goes first, then the oldest. A run that does not fit is passed by smaller ones for a while; then it
//! holds them back until it fits. A run larger than the host runs alone.

use crate::limits::HOLD_BACK_AFTER;

/// What one host gives to runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub memory_bytes: u64,
    /// Runs at a time: they share its cores.
    pub runs: usize,
}

/// Who waits for a run. In the order in which they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// A person, or a program that asked for it.
    Asked,
    /// Nobody: a schedule, or a retry.
    Planned,
}

/// A run that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub urgency: Urgency,
    /// Since when it could have started: its slot, or when it was asked for.
    pub since_ms: i64,
    /// What it is expected to take.
    pub memory_bytes: u64,
}

/// The waiting runs that may start now, in the order in which they should, by their index in `waiting`.
/// `running` holds what each running run is expected to take.
pub fn admit(budget: Budget, running: &[u64], waiting: &[Waiting], now_ms: i64) -> Vec<usize> {
    let hold_back_ms = i64::try_from(HOLD_BACK_AFTER.as_millis()).unwrap_or(i64::MAX);
    let mut order: Vec<usize> = (0..waiting.len()).collect();
    order.sort_by_key(|&index| (waiting[index].urgency, waiting[index].since_ms, index));
    let mut free_runs = budget.runs.saturating_sub(running.len());
    let taken = running.iter().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
    let mut free_bytes = budget.memory_bytes.saturating_sub(taken);
    let mut admitted = Vec::new();
    for index in order {
        if free_runs == 0 {
            break;
        }
        let run = &waiting[index];
        let needed = run.memory_bytes.min(budget.memory_bytes);
        // Where the budget is smaller than one run, each still runs: alone.
        let alone = running.is_empty() && admitted.is_empty();
        if needed <= free_bytes || alone {
            admitted.push(index);
            free_runs -= 1;
            free_bytes = free_bytes.saturating_sub(needed);
        } else if now_ms.saturating_sub(run.since_ms) >= hold_back_ms {
            break;
        }
    }
    admitted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: Budget = Budget { memory_bytes: 100, runs: 4 };

    fn planned(since_ms: i64, memory_bytes: u64) -> Waiting {
        Waiting { urgency: Urgency::Planned, since_ms, memory_bytes }
    }

    #[test]
    fn what_people_wait_for_goes_first_and_then_the_oldest() {
        let asked = Waiting { urgency: Urgency::Asked, since_ms: 9, memory_bytes: 10 };
        let waiting = [planned(3, 10), planned(1, 10), asked, planned(2, 10), planned(4, 10)];
        assert_eq!(admit(BUDGET, &[], &waiting, 10), [2, 1, 3, 0], "as many as there are places");
        assert_eq!(admit(BUDGET, &[10, 10, 10], &waiting, 10), [2]);
        assert_eq!(admit(BUDGET, &[1; 4], &waiting, 10), [] as [usize; 0]);
    }

    #[test]
    fn one_that_does_not_fit_is_passed_at_first_and_waited_for_later() {
        let waiting = [planned(0, 90), planned(1, 10)];
        assert_eq!(admit(BUDGET, &[50], &waiting, 1_000), [1], "the small one goes past");
        assert_eq!(admit(BUDGET, &[50], &waiting, 60_000), [] as [usize; 0], "the large one has waited long enough");
        assert_eq!(admit(BUDGET, &[10], &waiting, 60_000), [0], "and starts as soon as it fits");
    }

    #[test]
    fn one_larger_than_the_host_runs_alone() {
        let waiting = [planned(0, 1_000), planned(1, 1)];
        assert_eq!(admit(BUDGET, &[], &waiting, 1), [0]);
        assert_eq!(admit(BUDGET, &[1], &waiting, 60_000), [] as [usize; 0]);
        assert_eq!(admit(BUDGET, &[1_000], &waiting[1..], 1), [] as [usize; 0], "nothing starts beside it");
        let tiny = Budget { memory_bytes: 0, runs: 1 };
        assert_eq!(admit(tiny, &[], &waiting, 1), [0], "a host without memory for anything still works");
    }

    proptest! {
        /// Whatever comes and goes: the budget holds, and every run is at its turn after a while.
        #[test]
        fn nothing_starves_and_the_budget_holds(needs in prop::collection::vec(1_u64..200, 1..40), length in 1_i64..50_000) {
            let mut waiting: Vec<Waiting> = needs.iter().zip(0..).map(|(&need, since)| planned(since, need)).collect();
            let mut running: Vec<(i64, u64)> = Vec::new();
            let mut now = 0;
            let mut newcomers = 0;
            while waiting.iter().any(|run| run.since_ms < 100) {
                running.retain(|(end, _)| *end > now);
                let taken: Vec<u64> = running.iter().map(|(_, bytes)| *bytes).collect();
                let mut admitted = admit(BUDGET, &taken, &waiting, now);
                for &index in &admitted {
                    running.push((now + length, waiting[index].memory_bytes));
                }
                let sum: u64 = running.iter().map(|(_, bytes)| bytes).sum();
                prop_assert!(running.len() <= BUDGET.runs);
                prop_assert!(sum <= BUDGET.memory_bytes || running.len() == 1, "{running:?}");
                admitted.sort_unstable();
                for index in admitted.into_iter().rev() {
                    waiting.remove(index);
                }
                // Small ones keep coming and would fill every gap.
                newcomers += 1;
                waiting.push(planned(now + 1_000, 1));
                now += 1_000;
                prop_assert!(newcomers < 10_000, "some run never starts: {waiting:?}");
            }
        }
    }
}
