;; Emits to a stream that was not asked for, and returns ok whatever the sink says.
(data (i32.const 0x10000) "salaries")
(func (export "thimble:connector/source@0.1.0#read") (param i32) (result i32)
  (call $emit (global.get $scratch) (i32.const 8) (i32.const 1) (global.get $scratch) (i32.const 8) (global.get $answer))
  (global.get $ok))
