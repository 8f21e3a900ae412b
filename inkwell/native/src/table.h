// The path's functions as one table; the last thing that a path includes.
#pragma once

static const Kernels kTable = {PATH_NAME, packed_bytes, pack, row_bytes, quantise, multiply, rnn,
                               gru,       lstm,         norm, activate,  rotate,   attend, spin};
