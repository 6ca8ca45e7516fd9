;; Asks for 2 MiB of memory in its spec, then takes 3.
(func (export "thimble:connector/source@0.1.0#spec") (result i32)
  (i32.store (i32.const 0x530) (i32.const 1))
  (i32.store (i32.const 0x534) (i32.const 2))
  (i32.const 0x500))
(func (export "thimble:connector/source@0.1.0#check") (param i32 i32) (result i32)
  (if (i32.eq (i32.const -1) (memory.grow (i32.const 48))) (then unreachable))
  (i32.const 0xa0))
