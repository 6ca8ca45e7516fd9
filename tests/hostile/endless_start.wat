;; Computes forever before the first call.
(func $forever (loop $again (br $again)))
(start $forever)
