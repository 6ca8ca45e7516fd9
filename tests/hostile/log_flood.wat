;; Writes 200,000 lines of 64 KiB each to the log.
(func (export "thimble:connector/source@0.1.0#check") (param i32 i32) (result i32)
  (local $n i32)
  (memory.fill (global.get $scratch) (i32.const 0x61) (i32.const 0x10000))
  (loop $next
    (call $log (i32.const 2) (global.get $scratch) (i32.const 0x10000))
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $n) (i32.const {{LINES}}))))
  (i32.const 0xa0))
