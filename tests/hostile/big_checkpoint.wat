;; Checkpoints {{BYTES}} bytes, and hands on what the sink answers.
(func (export "thimble:connector/source@0.1.0#read") (param i32) (result i32)
  (drop (memory.grow (i32.const 400)))
  (memory.fill (global.get $scratch) (i32.const 0x61) (i32.const {{BYTES}}))
  (call $checkpoint (global.get $stream) (i32.const 7) (global.get $scratch) (i32.const {{BYTES}}) (global.get $answer))
  (global.get $answer))
