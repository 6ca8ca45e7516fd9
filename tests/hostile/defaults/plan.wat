(func (export "thimble:connector/source@0.1.0#plan") (param i32) (result i32) (i32.const 0x140))
