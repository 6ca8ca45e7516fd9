;; An honest connector: emits {{BATCHES}} batches of one JSON record, with a checkpoint after each.
(data (i32.const 0x10000) "{\"id\":1}")
(data (i32.const 0x10100) "state")
(func (export "thimble:connector/source@0.1.0#read") (param i32) (result i32)
  (local $n i32)
  (loop $next
    (call $emit (global.get $stream) (i32.const 7) (i32.const 1) (global.get $scratch) (i32.const 8) (global.get $answer))
    (if (i32.load8_u (global.get $answer)) (then (return (global.get $answer))))
    (call $checkpoint (global.get $stream) (i32.const 7) (i32.const 0x10100) (i32.const 5) (global.get $answer))
    (if (i32.load8_u (global.get $answer)) (then (return (global.get $answer))))
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $n) (i32.const {{BATCHES}}))))
  (global.get $ok))
