;; Takes elements of four tables, 60,000 each.
(table $t0 0 funcref) (table $t1 0 funcref) (table $t2 0 funcref) (table $t3 0 funcref)
(func $must (param i32) (if (i32.eq (local.get 0) (i32.const -1)) (then unreachable)))
(func (export "thimble:connector/source@0.1.0#check") (param i32 i32) (result i32)
  (call $must (table.grow $t0 (ref.null func) (i32.const 60000)))
  (call $must (table.grow $t1 (ref.null func) (i32.const 60000)))
  (call $must (table.grow $t2 (ref.null func) (i32.const 60000)))
  (call $must (table.grow $t3 (ref.null func) (i32.const 60000)))
  (i32.const 0xa0))
