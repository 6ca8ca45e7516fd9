//! Peers that go away and come back: PostgreSQL stopped or cut off in the middle of a commit, the control database locked.
