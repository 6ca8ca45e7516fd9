;; Says that it reached something whose name is not UTF-8.
(data (i32.const 0x400) "\00\00\00\00\00\00\00\00" "\20\04\00\00\02\00\00\00")
(data (i32.const 0x420) "\ff\fe")
(func (export "thimble:connector/source@0.1.0#check") (param i32 i32) (result i32) (i32.const 0x400))
