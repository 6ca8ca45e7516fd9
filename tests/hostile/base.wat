(memory (export "memory") 4)

;; Where things lie. Pages 0 and 1 are data, the allocator begins at page 2.
(global $stream i32 (i32.const 0x80))  ;; the text "records", 7 bytes
(global $ok i32 (i32.const 0x1a0))
(global $answer i32 (i32.const 0x200))
(global $error i32 (i32.const 0x300))
(global $scratch i32 (i32.const 0x10000))  ;; one page of nothing

(data (i32.const 0x10) "guest")
(data (i32.const 0x20) "1.0.0")
(data (i32.const 0x30) "{\"type\":\"object\"}")
;; spec: name, version, title, docs, schema; no hosts, no memory, no secrets
(data (i32.const 0x500)
  "\10\00\00\00\05\00\00\00" "\20\00\00\00\05\00\00\00" "\10\00\00\00\05\00\00\00"
  "\00\00\00\00\00\00\00\00" "\30\00\00\00\11\00\00\00"
  "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00")

(data (i32.const 0x80) "records")
(data (i32.const 0x90) "reached")
;; ok("reached")
(data (i32.const 0xa0) "\00\00\00\00\00\00\00\00" "\90\00\00\00\07\00\00\00")
;; ok(catalog of one stream)
(data (i32.const 0xd0) "\00\00\00\00\00\00\00\00" "\10\01\00\00\01\00\00\00")
;; stream: name, no fields, no key, one method (full-table), no cursor
(data (i32.const 0x110)
  "\80\00\00\00\07\00\00\00" "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00"
  "\00\01\00\00\01\00\00\00" "\00\00\00\00")
;; ok(plan of one partition, no next state)
(data (i32.const 0x140) "\00\00\00\00\00\00\00\00" "\70\01\00\00\01\00\00\00" "\00\00\00\00")
;; partition: id, empty descriptor, no estimates
(data (i32.const 0x170) "\80\00\00\00\07\00\00\00")
;; error(system, "broken")
(data (i32.const 0x300) "\01\00\00\00\00\00\00\00" "\02\00\00\00\30\03\00\00\06\00\00\00")
(data (i32.const 0x330) "broken")

(global $free (mut i32) (i32.const 0x20000))
(func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and
    (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
    (i32.sub (i32.const 0) (local.get $align))))
  (global.set $free (i32.add (local.get $at) (local.get $size)))
  (block $fits
    (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 0x10000))))
    (br_if $fits (i32.ne (i32.const -1)
      (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))))
    unreachable)
  (local.get $at))
