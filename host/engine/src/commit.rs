//! The commit protocol, one step at a time.
//!
//! ```text
//!            ┌────────────────────────── a sealed batch is left over ─────────────────┐
//!            ▼                                                                        │
//! Fencing ─▶ Recovering ──none──▶ Ready ──batch──▶ Staging ─▶ Sealing ─▶ Loading ─▶ Mirroring ─▶ Collecting
//!                                   ▲                                    │   ▲  ▲                    │
//!                                   │                            unknown │   │  └─ Waiting (backoff) │
//!                                   │                                    ▼   │ not there             │
//!                                   │                                  Asking ──── there ──▶ Mirroring │
//!                                   └────────────────────────────────────────────────────────────────┘
//! Loading ── a left-over batch whose staging is gone ──▶ Recovering
//! Fencing ── failure that may pass ──▶ Unfenced (backoff) ──▶ Fencing
//! any state ── failure that is not retried, or a newer owner ──▶ Stopped
//! ```
//!
//! Starting is recovering: the first run and the run after a crash take the same path. A batch that was sealed
//! is loaded, whatever happens; one that was not is as if it had never been extracted. Whether a commit of
//! unknown outcome happened is answered by the destination alone.

use thimble_record::{BatchSeq, ErrorKind, Failure};

use crate::retry::{Retry, RetryPolicy};

/// Where the protocol stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The fence is being raised to our epoch. Raising it twice is raising it once.
    Fencing {
        attempt: u32,
    },
    /// Until the next try of that.
    Unfenced {
        attempt: u32,
    },
    /// The destination stands at `committed`; are there sealed batches behind it?
    Recovering {
        committed: BatchSeq,
    },
    /// Everything sealed is loaded; the next batch may come.
    Ready {
        committed: BatchSeq,
    },
    /// Segments are being written to the staging store.
    Staging {
        seq: BatchSeq,
    },
    /// The manifest is being written to the control database.
    Sealing {
        seq: BatchSeq,
    },
    Loading {
        seq: BatchSeq,
        attempt: u32,
    },
    /// Until the next try.
    Waiting {
        seq: BatchSeq,
        attempt: u32,
    },
    /// The destination is asked whether the batch is there.
    Asking {
        seq: BatchSeq,
        attempt: u32,
    },
    Mirroring {
        seq: BatchSeq,
    },
    Collecting {
        seq: BatchSeq,
    },
    Stopped,
}

/// What came of the last action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The fence is ours; the destination's last committed batch.
    Fenced {
        committed: BatchSeq,
    },
    /// The oldest sealed batch that the destination lacks, if any.
    LeftOver(Option<BatchSeq>),
    /// Extraction closed a batch.
    Closed(BatchSeq),
    /// The action succeeded.
    Done,
    /// The outcome of a load is unknown: the answer was lost.
    Unknown,
    /// What was staged of a left-over batch is gone and the destination lacks the batch: it was forgotten, so that its
    /// records are extracted again.
    Forgotten,
    /// The destination's last committed batch, as asked.
    Committed(BatchSeq),
    Failed(Failure),
}

/// The one piece of I/O to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    RaiseFence,
    ListSealed {
        after: BatchSeq,
    },
    AwaitBatch,
    PutSegments(BatchSeq),
    Seal(BatchSeq),
    Load(BatchSeq),
    Wait {
        ms: u64,
    },
    AskDestination,
    /// Write the position to the control database, then acknowledge the source up to it.
    Mirror(BatchSeq),
    /// Delete the segments of batches up to this one.
    Collect(BatchSeq),
    Stop(Failure),
}

/// The start of every run.
pub fn start() -> (Action, State) {
    (Action::RaiseFence, State::Fencing { attempt: 1 })
}

impl State {
    /// The next action after `input`. `jitter` is uniform in 0.0..1.0.
    #[must_use]
    pub fn step(self, policy: &RetryPolicy, jitter: f64, input: Input) -> (Action, Self) {
        match (self, input) {
            (Self::Fencing { .. }, Input::Fenced { committed }) => recover(committed),
            (Self::Fencing { attempt }, Input::Failed(failure)) => match policy.decide(&failure, attempt, jitter) {
                Retry::After(ms) => (Action::Wait { ms }, Self::Unfenced { attempt: attempt + 1 }),
                Retry::GiveUp => (Action::Stop(failure), Self::Stopped),
            },
            (Self::Unfenced { attempt }, Input::Done) => (Action::RaiseFence, Self::Fencing { attempt }),
            (Self::Recovering { committed }, Input::LeftOver(None)) => (Action::AwaitBatch, Self::Ready { committed }),
            (Self::Recovering { committed }, Input::LeftOver(Some(seq))) if seq == committed.next() => load(seq, 1),
            (Self::Ready { committed }, Input::Closed(seq)) if seq == committed.next() => {
                (Action::PutSegments(seq), Self::Staging { seq })
            }
            (Self::Staging { seq }, Input::Done) => (Action::Seal(seq), Self::Sealing { seq }),
            (Self::Sealing { seq }, Input::Done) => load(seq, 1),
            (Self::Loading { seq, .. }, Input::Done) => (Action::Mirror(seq), Self::Mirroring { seq }),
            (Self::Loading { seq, .. }, Input::Forgotten) => recover(BatchSeq(seq.0.saturating_sub(1))),
            (Self::Loading { seq, attempt }, Input::Unknown) => (Action::AskDestination, Self::Asking { seq, attempt }),
            (Self::Loading { seq, attempt }, Input::Failed(failure)) => again(policy, jitter, seq, attempt, failure),
            (Self::Waiting { seq, attempt }, Input::Done) => load(seq, attempt),
            (Self::Asking { seq, attempt }, Input::Committed(committed)) => {
                answered(policy, jitter, seq, attempt, committed)
            }
            (Self::Asking { seq, attempt }, Input::Failed(failure)) => again(policy, jitter, seq, attempt, failure),
            (Self::Mirroring { seq }, Input::Done) => (Action::Collect(seq), Self::Collecting { seq }),
            // Segments that could not be deleted are orphans; a later collection takes them.
            (Self::Collecting { seq }, Input::Done | Input::Failed(_)) => recover(seq),
            (_, Input::Failed(failure)) => (Action::Stop(failure), Self::Stopped),
            (state, input) => {
                let message = format!("the commit protocol got {input:?} in {state:?}; please report this");
                (Action::Stop(Failure::system(message)), Self::Stopped)
            }
        }
    }
}

fn recover(committed: BatchSeq) -> (Action, State) {
    (Action::ListSealed { after: committed }, State::Recovering { committed })
}

fn load(seq: BatchSeq, attempt: u32) -> (Action, State) {
    (Action::Load(seq), State::Loading { seq, attempt })
}

fn again(policy: &RetryPolicy, jitter: f64, seq: BatchSeq, attempt: u32, failure: Failure) -> (Action, State) {
    match policy.decide(&failure, attempt, jitter) {
        Retry::After(ms) => (Action::Wait { ms }, State::Waiting { seq, attempt: attempt + 1 }),
        Retry::GiveUp => (Action::Stop(failure), State::Stopped),
    }
}

fn answered(policy: &RetryPolicy, jitter: f64, seq: BatchSeq, attempt: u32, committed: BatchSeq) -> (Action, State) {
    if committed == seq {
        return (Action::Mirror(seq), State::Mirroring { seq });
    }
    if committed > seq {
        let message =
            format!("the destination stands at batch {committed}, past ours ({seq}): another owner has taken over");
        return (Action::Stop(Failure::new(ErrorKind::Refused, message)), State::Stopped);
    }
    let message = format!("batch {seq} was not committed: the destination's answer was lost");
    again(policy, jitter, seq, attempt, Failure::new(ErrorKind::Transient, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(inputs: Vec<Input>) -> Vec<Action> {
        let policy = RetryPolicy::default();
        let (action, mut state) = start();
        let mut actions = vec![action];
        for input in inputs {
            let (action, next) = state.step(&policy, 1.0, input);
            actions.push(action);
            state = next;
        }
        actions
    }

    const N: fn(u64) -> BatchSeq = BatchSeq;

    #[test]
    fn a_batch_is_staged_sealed_loaded_mirrored_collected() {
        let actions = run(vec![
            Input::Fenced { committed: N(4) },
            Input::LeftOver(None),
            Input::Closed(N(5)),
            Input::Done,
            Input::Done,
            Input::Done,
            Input::Done,
            Input::Done,
            Input::LeftOver(None),
        ]);
        assert_eq!(
            actions,
            [
                Action::RaiseFence,
                Action::ListSealed { after: N(4) },
                Action::AwaitBatch,
                Action::PutSegments(N(5)),
                Action::Seal(N(5)),
                Action::Load(N(5)),
                Action::Mirror(N(5)),
                Action::Collect(N(5)),
                Action::ListSealed { after: N(5) },
                Action::AwaitBatch,
            ]
        );
    }

    #[test]
    fn a_sealed_batch_is_loaded_before_anything_is_extracted() {
        let actions = run(vec![Input::Fenced { committed: N(4) }, Input::LeftOver(Some(N(5)))]);
        assert_eq!(actions.last(), Some(&Action::Load(N(5))));
    }

    #[test]
    fn an_unknown_outcome_is_asked_for_and_never_guessed() {
        let lost = [Input::Fenced { committed: N(0) }, Input::LeftOver(Some(N(1))), Input::Unknown];
        let there = run(lost.iter().cloned().chain([Input::Committed(N(1))]).collect());
        assert_eq!(there[3..], [Action::AskDestination, Action::Mirror(N(1))]);
        let absent = run(lost.iter().cloned().chain([Input::Committed(N(0)), Input::Done]).collect());
        assert_eq!(absent[3..], [Action::AskDestination, Action::Wait { ms: 500 }, Action::Load(N(1))]);
        let stolen = run(lost.iter().cloned().chain([Input::Committed(N(2))]).collect());
        assert!(matches!(stolen.last(), Some(Action::Stop(_))));
    }

    #[test]
    fn a_fence_is_raised_again_unless_a_newer_one_stands() {
        let failed = |kind| Input::Failed(Failure::new(kind, "x"));
        let again = run(vec![failed(ErrorKind::Transient), Input::Done, Input::Fenced { committed: N(4) }]);
        assert_eq!(again[1..], [Action::Wait { ms: 500 }, Action::RaiseFence, Action::ListSealed { after: N(4) }]);
        assert!(matches!(run(vec![failed(ErrorKind::Refused)]).last(), Some(Action::Stop(_))));
    }

    #[test]
    fn a_batch_whose_staging_is_gone_is_extracted_again() {
        let gone = run(vec![
            Input::Fenced { committed: N(4) },
            Input::LeftOver(Some(N(5))),
            Input::Forgotten,
            Input::LeftOver(None),
            Input::Closed(N(5)),
        ]);
        assert_eq!(
            gone[2..],
            [Action::Load(N(5)), Action::ListSealed { after: N(4) }, Action::AwaitBatch, Action::PutSegments(N(5)),]
        );
    }

    #[test]
    fn a_gap_in_the_sequence_stops_the_run() {
        let gap = run(vec![Input::Fenced { committed: N(4) }, Input::LeftOver(Some(N(6)))]);
        assert!(matches!(gap.last(), Some(Action::Stop(_))));
    }

    #[test]
    fn failures_are_retried_by_kind_and_then_stop() {
        let failed = |kind| Input::Failed(Failure::new(kind, "x"));
        let refused =
            run(vec![Input::Fenced { committed: N(0) }, Input::LeftOver(Some(N(1))), failed(ErrorKind::Refused)]);
        assert!(matches!(refused.last(), Some(Action::Stop(_))));
        let mut inputs = vec![Input::Fenced { committed: N(0) }, Input::LeftOver(Some(N(1)))];
        for _ in 0..4 {
            inputs.extend([failed(ErrorKind::Transient), Input::Done]);
        }
        inputs.push(failed(ErrorKind::Transient));
        let actions = run(inputs);
        assert_eq!(actions.iter().filter(|a| matches!(a, Action::Load(_))).count(), 5);
        assert!(matches!(actions.last(), Some(Action::Stop(_))));
    }

    /// Seeded walks: whatever comes, nothing is loaded that was not sealed or left over, and a stop is final.
    #[test]
    fn no_input_loads_an_unsealed_batch() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..20_000 {
            let (_, mut state) = start();
            let mut sealed = None;
            for _ in 0..12 {
                let n = N(random() % 3);
                let input = match random() % 8 {
                    0 => Input::Fenced { committed: n },
                    1 => Input::LeftOver(Some(n)),
                    2 => Input::LeftOver(None),
                    3 => Input::Closed(n),
                    4 | 5 => Input::Done,
                    6 => Input::Committed(n),
                    _ => Input::Unknown,
                };
                if let (State::Recovering { .. }, Input::LeftOver(Some(seq))) = (&state, &input) {
                    sealed = Some(*seq);
                }
                if let (State::Sealing { seq }, Input::Done) = (&state, &input) {
                    sealed = Some(*seq);
                }
                let stopped = state == State::Stopped;
                let (action, next) = state.step(&RetryPolicy::default(), 0.5, input);
                if let Action::Load(seq) = action {
                    assert_eq!(sealed, Some(seq));
                }
                assert!(!stopped || next == State::Stopped);
                state = next;
            }
        }
    }
}
