;; Asks for 60,000 MiB of memory in its spec.
(func (export "thimble:connector/source@0.1.0#spec") (result i32)
  (i32.store (i32.const 0x530) (i32.const 1))
  (i32.store (i32.const 0x534) (i32.const 60000))
  (i32.const 0x500))
