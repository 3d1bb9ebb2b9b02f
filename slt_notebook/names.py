"""Names of dimensions, groups, variables and attributes that several packages share.

The torch side writes a store with these names and the result side reads it; neither imports the
other.  See the README's map of the packages.
"""

SCHEMA = 1
"""Version of the store's layout.  A reader refuses a newer one."""

# Dims -------------------------------------------------------------------------------------------
CHAIN = "chain"
DRAW = "draw"
STEP = "step"
EXAMPLE = "example"
TOKEN = "token"
COMPONENT = "component"
DIM = "dim"
CONTROL = "control"
CHECKPOINT_DIM = "checkpoint"
DATASET = "dataset"

# Groups of a run ---------------------------------------------------------------------------------
SAMPLING = "sampling"
PROBE = "probe"
CHECKPOINT = "checkpoint"

# Variables ---------------------------------------------------------------------------------------
LOSS = "loss"
INIT_LOSS = "init_loss"
VIRIAL = "virial"
GRAD_NORM = "grad_norm"
DISTANCE = "distance"
ACCEPT = "accept"
STATUS = "status"
STATUS_STEP = "status_step"
CONTROL_LOSS = "control_loss"
CONTROL_INIT_LOSS = "control_init_loss"
TOKEN_ID = "token_id"
TOKEN_TEXT = "token_text"
FIRST_ID = "first_id"
FIRST_TEXT = "first_text"
LABEL = "label"
POSITION = "position"

# A sweep: runs in one folder ----------------------------------------------------------------------
SWEEP_INDEX = "sweep.json"
TRAINING_STEP = "training_step"

# Per-chain coordinates of `sampling` -------------------------------------------------------------
STEP_SIZE = "step_size"
NBETA = "nbeta"
GAMMA = "gamma"

# Attributes --------------------------------------------------------------------------------------
A_SCHEMA = "slt_schema"
A_TASK = "slt_task"
A_VERSIONS = "slt_versions"
A_MODEL = "slt_model"
A_CREATED = "created_at"
A_NOTES = "slt_notes"  # what a reader of the run should know of how it was computed
A_CHECKSUMS = "slt_checksums"  # the checksum of each chunk
A_DIGEST = "slt_digest"  # of the zarr.json that it stands in
A_ARRAYS = "slt_arrays"  # the arrays that a run must have
STORE_ATTRS = (A_CHECKSUMS, A_DIGEST, A_ARRAYS)
"""Facts about the files of one store: a tree that is read from it, and may be written elsewhere,
does not carry them."""
A_BURNIN = "burnin"
A_THIN = "thin"
A_DRAWS = "draws"
A_DATA_SIZE = "data_size"
A_SPACE_DIM = "space_dim"
A_COMPONENT = "component"
A_SIGN = "sign"
A_FORMULA = "formula"
A_SOURCE = "source"
A_TAGS = "tags"
A_KIND = "slt_kind"  # what a Dataset is: `views/dispatch.py` shows it by this

# Status of a chain: the code is the cause --------------------------------------------------------
STATUS_OK = 0
STATUS_LOSS = 1
STATUS_GRADIENT = 2
STATUS_POSITION = 3
STATUS_METRIC = 4
STATUS_STATE = 5
STATUS_PROBE = 6
STATUS_HALF = 7
STATUS_TEXT = {
    STATUS_OK: "ok",
    STATUS_LOSS: "diverged: the loss of its batch was not finite",
    STATUS_GRADIENT: "diverged: the gradient was not finite",
    STATUS_POSITION: "diverged: the position was not finite",
    STATUS_METRIC: "diverged: the preconditioner was not finite",
    STATUS_STATE: "diverged: the momentum, friction or energy of the sampler was not finite",
    STATUS_PROBE: "diverged: a loss of a probe was not finite",
    STATUS_HALF: "diverged: a loss of a probe was not finite in half precision",
}
STATUS_DO = {
    STATUS_METRIC: "use slt.Identity, or multiply the loss by a small number: the squares of its "
    "gradient overflow",
    STATUS_PROBE: "drop the examples of the probe whose losses are not finite in the store, or use "
    "a smaller step_size",
    STATUS_HALF: "sample with probe_dtype='float32', or 'bfloat16', which has its range",
}
"""What to do about a status, where it is not `STATUS_DO_ELSE`."""
STATUS_DO_ELSE = "use a smaller step_size, or a smaller nbeta or gamma"
