#!/bin/sh
# resources.sh FILE...: a table of the registers that each kernel takes on each architecture, and of the
# bytes that it spills, from what `ptxas -v` has written to files called NAME.BITS.sm_ARCH.
# SPDX-License-Identifier: MIT
awk '
    BEGIN { n = split("sm_80 sm_86 sm_89 sm_90a", archs, " ") }
    FNR == 1 { fields = split(FILENAME, part, "."); arch = part[fields]; bits = part[fields - 1] }
    /Compiling entry function/ { split($0, part, "\047"); kernel = part[2] }
    /Function properties for/ { of_kernel = $NF == kernel }
    /bytes spill stores/ && of_kernel { spilled = $5 }
    match($0, /Used [0-9]+ registers/) {
        row = kernel ", " bits " bits"
        used[row, arch] = substr($0, RSTART + 5, RLENGTH - 15) (spilled > 0 ? ", " spilled " spilled" : "")
        if (!(row in seen))
            rows[++count] = row
        seen[row] = 1
    }
    END {
        header = "| kernel |"
        rule = "|---|"
        for (i = 1; i <= n; i++) {
            header = header " " archs[i] " |"
            rule = rule "---|"
        }
        print header "\n" rule
        for (r = 1; r <= count; r++) {
            line = "| " rows[r] " |"
            for (i = 1; i <= n; i++)
                line = line " " used[rows[r], archs[i]] " |"
            print line
        }
    }' "$@" | c++filt | sed -E 's/^\| void /| /; s/\(conv_kind\)//g; s/&_INTERNAL_[^:]*:://g; s/\(.*\), (16|32) bits/, \1 bits/; s/> >/>>/g'
