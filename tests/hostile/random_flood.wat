;; Asks for a terabyte of random bytes at once.
(import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64) (param i32)))
(func (export "thimble:connector/source@0.1.0#check") (param i32 i32) (result i32)
  (call $random (i64.const 0x10000000000) (global.get $answer))
  (i32.const 0xa0))
