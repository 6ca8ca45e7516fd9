(import "thimble:connector/sink@0.1.0" "emit"
  ;; stream, batch (0 arrow, 1 json; bytes), where the result goes
  (func $emit (param i32 i32) (param i32 i32 i32) (param i32)))
(import "thimble:connector/sink@0.1.0" "reject" (func $reject (param i32 i32) (param i32 i32) (param i32)))
(import "thimble:connector/sink@0.1.0" "checkpoint" (func $checkpoint (param i32 i32) (param i32 i32) (param i32)))
;; level (0 trace … 4 error), message
(import "thimble:connector/log@0.1.0" "write" (func $log (param i32) (param i32 i32)))
