#!/bin/sh
# resources.sh FILE...: a table of what each kernel takes on each architecture: the registers of a thread,
# the bytes of shared memory that are fixed when it is compiled, and the bytes that it spills. It is made
# from what `ptxas -v` has written to files called NAME.BITS.sm_ARCH. Fails if one of the kernels spills in
# which training, sampling or the autoencoder spend their time, or is not there. SPDX-License-Identifier: MIT
hot='attention_tensor attention_backward_tensor norm_rows backward_chunk adamw sum_squares sum_rows epilogue diffusion_loss convolve_tile find_moments normalize'
export plain="c++filt | sed -E 's/^(\\| )?void /\\1/; s/\\(conv_kind\\)//g; s/&_INTERNAL_[^:]*:://g; s/\\(.*\\), (16|32) bits/, \\1 bits/; s/> >/>>/g'"
exec awk -v hot="$hot" '
    BEGIN {
        n = split("sm_80 sm_86 sm_89 sm_90a", archs, " ")
        n_hot = split(hot, names, " ")
        plain = ENVIRON["plain"]
    }
    FNR == 1 { fields = split(FILENAME, part, "."); arch = part[fields]; bits = part[fields - 1] }
    /Compiling entry function/ { split($0, part, "\047"); kernel = part[2] }
    /Function properties for/ { of_kernel = $NF == kernel }
    /bytes spill stores/ && of_kernel { spilled = $5 }
    match($0, /Used [0-9]+ registers/) {
        row = kernel ", " bits " bits"
        used[row, arch] = substr($0, RSTART + 5, RLENGTH - 15)
        if (match($0, /[0-9]+ bytes smem/))
            used[row, arch] = used[row, arch] ", " substr($0, RSTART, RLENGTH - 11) " shared"
        if (spilled > 0)
            used[row, arch] = used[row, arch] ", " spilled " spilled"
        for (i = 1; i <= n_hot; i++)
            if (kernel ~ "[0-9]" names[i]) {
                found[names[i], arch] = 1
                if (spilled > 0)
                    faults[++n_faults] = row " spills " spilled " bytes on " arch
            }
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
        print header "\n" rule | plain
        for (r = 1; r <= count; r++) {
            line = "| " rows[r] " |"
            for (i = 1; i <= n; i++)
                line = line " " used[rows[r], archs[i]] " |"
            print line | plain
        }
        close(plain)
        for (i = 1; i <= n_hot; i++)
            for (a = 1; a <= n; a++)
                if (!((names[i], archs[a]) in found))
                    faults[++n_faults] = "no kernel is called " names[i] " on " archs[a]
        for (i = 1; i <= n_faults; i++)
            print faults[i] | plain " >&2"
        exit n_faults > 0
    }' "$@"
