;; Emits one batch of {{BYTES}} bytes, and hands on what the sink answers.
(func (export "thimble:connector/source@0.1.0#read") (param i32) (result i32)
  (drop (memory.grow (i32.const 400)))
  (call $emit (global.get $stream) (i32.const 7) (i32.const 1) (global.get $scratch) (i32.const {{BYTES}}) (global.get $answer))
  (global.get $answer))
