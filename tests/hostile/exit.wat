;; Ends the program, with success.
(import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))
(func (export "thimble:connector/source@0.1.0#read") (param i32) (result i32)
  (call $exit (i32.const 0))
  (global.get $ok))
