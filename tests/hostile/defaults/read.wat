(func (export "thimble:connector/source@0.1.0#read") (param i32) (result i32) (global.get $ok))
