//! Counts the memory of an instance over all its linear memories and tables.
//!
//! wasmtime's own `StoreLimits` holds each memory to the limit by itself, so that twenty memories take twenty times
//! as much. Must never let the sum over the limit, whatever the guest divides it into.

use wasmtime::ResourceLimiter;

use crate::limits::{Limits, MIB};

/// What an instance was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denied {
    /// Name of the limit.
    pub limit: &'static str,
    /// Its value, in the unit of its name.
    pub allowed: u64,
}

/// The aggregate limiter of one store.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    memory_bytes: usize,
    memory_limit: Denied,
    table_elements: usize,
    memories: usize,
    tables: usize,
    instances: usize,
    used_bytes: usize,
    used_elements: usize,
    /// What the last growth added, to take back where the operating system refuses it.
    last_bytes: usize,
    last_elements: usize,
    denied: Option<Denied>,
}

impl MemoryLimiter {
    /// `memory_mib` is what this plugin may have in sum.
    pub(crate) fn new(limits: &Limits, memory_mib: u32) -> Self {
        Self {
            memory_bytes: (memory_mib as usize).saturating_mul(MIB),
            memory_limit: Denied { limit: "memory_mib", allowed: u64::from(memory_mib) },
            table_elements: limits.table_elements,
            memories: limits.memories,
            tables: limits.tables,
            instances: limits.core_instances,
            used_bytes: 0,
            used_elements: 0,
            last_bytes: 0,
            last_elements: 0,
            denied: None,
        }
    }

    /// Bytes of all memories together; they never shrink.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// The last refusal, which explains a trap that follows it.
    pub(crate) fn denied(&self) -> Option<Denied> {
        self.denied
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        match self.used_bytes.checked_add(more).filter(|sum| *sum <= self.memory_bytes) {
            Some(sum) => {
                self.used_bytes = sum;
                self.last_bytes = more;
                Ok(true)
            }
            None => {
                self.last_bytes = 0;
                self.denied = Some(self.memory_limit);
                Ok(false)
            }
        }
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.used_bytes -= std::mem::take(&mut self.last_bytes);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        match self.used_elements.checked_add(more).filter(|sum| *sum <= self.table_elements) {
            Some(sum) => {
                self.used_elements = sum;
                self.last_elements = more;
                Ok(true)
            }
            None => {
                self.last_elements = 0;
                self.denied = Some(Denied { limit: "table_elements", allowed: self.table_elements as u64 });
                Ok(false)
            }
        }
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.used_elements -= std::mem::take(&mut self.last_elements);
        Ok(())
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn limiter() -> MemoryLimiter {
        MemoryLimiter::new(&Limits { table_elements: 10, ..Limits::default() }, 2)
    }

    #[test]
    fn the_sum_over_memories_counts() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, MIB, None).unwrap());
        assert!(limiter.memory_growing(0, MIB, None).unwrap());
        assert!(!limiter.memory_growing(0, 1, None).unwrap());
        assert_eq!(limiter.denied(), Some(Denied { limit: "memory_mib", allowed: 2 }));
    }

    #[test]
    fn a_growth_that_failed_is_taken_back_once() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 2 * MIB, None).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        limiter.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        assert_eq!(limiter.used_bytes, 0);
        assert!(limiter.memory_growing(0, 2 * MIB, None).unwrap());
    }

    #[test]
    fn the_sum_over_tables_counts() {
        let mut limiter = limiter();
        assert!(limiter.table_growing(0, 6, None).unwrap());
        assert!(!limiter.table_growing(0, 5, None).unwrap());
        assert!(limiter.table_growing(6, 10, None).unwrap());
        assert_eq!(limiter.denied().unwrap().limit, "table_elements");
    }
}
