(func (export "thimble:connector/source@0.1.0#check") (param i32 i32) (result i32) (i32.const 0xa0))
