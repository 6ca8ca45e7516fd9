(func (export "thimble:connector/source@0.1.0#spec") (result i32) (i32.const 0x500))
