"""What tables and figures call the configurations in ``claims/configs``."""

LABELS = {
    "post_ln_18l": "Post-LN, 18-18",
    "pre_ln_18l": "Pre-LN, 18-18",
    "b2t_18l": "B2T, 18-18",
    "post_ln_6l": "Post-LN, 6-6 (Vanilla)",
    "pre_ln_6l": "Pre-LN, 6-6",
    "b2t_6l": "B2T, 6-6",
    "b2t_18l_scaled_init": "B2T, 18-18, depth-scaled initialization",
    "b2t_18l_word_dropout": "B2T, 18-18, word dropout 0.1",
    "admin_6l": "Admin, 6-6",
    "sequence_12": "Admin, Sequence, M=6, N=12",
    "cycle_12": "Admin, Cycle, M=6, N=12",
    "cycle_rev_12": "Admin, Cycle (rev), M=6, N=12",
    "cycle_rev_18": "Admin, Cycle (rev), M=6, N=18",
    "universal": "Universal (Admin, M=1, N=6, twice the width)",
    "b2t_cycle_rev_12": "B2T, Cycle (rev), M=6, N=12",
    "b2t_cycle_rev_18": "B2T, Cycle (rev), M=6, N=18",
    "b2t_cycle_rev_36": "B2T, Cycle (rev), M=6, N=36",
    "cycle_rev_12_low_rate": "Admin, Cycle (rev), M=6, N=12, learning rate 2e-3",
    "cycle_rev_18_low_rate": "Admin, Cycle (rev), M=6, N=18, learning rate 2e-3",
    "b2t_cycle_rev_18_low_rate": "B2T, Cycle (rev), M=6, N=18, learning rate 2e-3",
}

TITLES = {"post_ln": "Post-LN", "pre_ln": "Pre-LN", "b2t": "B2T"}
"""The schemes whose gradients are compared; tables and figures show them in this order."""
