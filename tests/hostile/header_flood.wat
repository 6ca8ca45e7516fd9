;; Adds headers of 4 KiB to one request until the host says no, a thousand times at most.
(import "wasi:http/types@0.2.6" "[constructor]fields" (func $fields (result i32)))
(import "wasi:http/types@0.2.6" "[method]fields.append" (func $append (param i32) (param i32 i32) (param i32 i32) (param i32)))
(data (i32.const 0x10000) "x-flood")
(func (export "thimble:connector/source@0.1.0#check") (param i32 i32) (result i32)
  (local $fields i32) (local $n i32)
  (local.set $fields (call $fields))
  (memory.fill (i32.const 0x11000) (i32.const 0x61) (i32.const 0x1000))
  (loop $next
    (call $append (local.get $fields) (global.get $scratch) (i32.const 7) (i32.const 0x11000) (i32.const 0x1000) (global.get $answer))
    (if (i32.load8_u (global.get $answer)) (then (return (global.get $error))))
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $n) (i32.const 1000))))
  (i32.const 0xa0))
