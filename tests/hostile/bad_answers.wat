;; Fails in check with a message of 64 KiB, lists one stream twice, plans one partition without an id.
(data (i32.const 0x400) "\01\00\00\00\00\00\00\00" "\00\00\00\00\00\00\01\00\00\00\01\00")
(data (i32.const 0x440) "\00\00\00\00\00\00\00\00" "\70\04\00\00\02\00\00\00")
(data (i32.const 0x470)
  "\80\00\00\00\07\00\00\00" "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00" "\00\01\00\00\01\00\00\00" "\00\00\00\00\00\00\00\00\00\00\00\00"
  "\80\00\00\00\07\00\00\00" "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00" "\00\01\00\00\01\00\00\00" "\00\00\00\00\00\00\00\00\00\00\00\00")
(data (i32.const 0x600) "\00\00\00\00\00\00\00\00" "\20\06\00\00\01\00\00\00" "\00\00\00\00")
(func (export "thimble:connector/source@0.1.0#check") (param i32 i32) (result i32)
  (memory.fill (global.get $scratch) (i32.const 0x61) (i32.const 0x10000))
  (i32.const 0x400))
(func (export "thimble:connector/source@0.1.0#discover") (param i32 i32) (result i32) (i32.const 0x440))
(func (export "thimble:connector/source@0.1.0#plan") (param i32) (result i32) (i32.const 0x600))
