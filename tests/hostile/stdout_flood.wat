;; Writes short lines, and a last one without an end, to standard output.
(import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
  (func $write (param i32) (param i32 i32) (param i32)))
(data (i32.const 0x10000) "one line\0aand more")
(func (export "thimble:connector/source@0.1.0#check") (param i32 i32) (result i32)
  (local $out i32) (local $n i32)
  (local.set $out (call $stdout))
  (loop $next
    (call $write (local.get $out) (global.get $scratch) (i32.const 17) (global.get $answer))
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $n) (i32.const {{LINES}}))))
  (i32.const 0xa0))
