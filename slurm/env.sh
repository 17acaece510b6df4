# What a site has to know, in one place. Every job sources this file before it starts Python; edit it, and nothing else.
# It sets `yoloperf`, the command that the scripts beside it call.

# --- modules ------------------------------------------------------------------------------------------------------------
# module load python/3.11 cuda/12.6

# --- the node's own disk, where the site gives a job one: the sweep's data sets are copied to it -----------------------------
# SLURM_TMPDIR=/scratch/$SLURM_JOB_ID

# --- Python: the one that submitted the sweep, unless you say otherwise ---------------------------------------------------
# . "$HOME/yoloperf/.venv/bin/activate"; YOLOPERF_PYTHON=python
yoloperf=("${YOLOPERF_PYTHON:-python3}" -m yoloperf)

# --- or a container, built from apptainer.def -----------------------------------------------------------------------------
# It has no scontrol of its own: a task that is stopped checkpoints, but goes on in the next call of `yoloperf sweep` only. Bind Slurm's
# commands, its configuration and munge's socket into it, and the task requeues itself. Bind the folder of the data, too.
# yoloperf=(apptainer exec --nv --bind "$PWD,${SLURM_TMPDIR:-/tmp}" "$HOME/yoloperf.sif" python3 -m yoloperf)

# --- data: the folder that holds bccd/, coco/, ... (default: datasets/ where the sweep was submitted) -----------------------
# export YOLOPERF_DATA=/project/shared/data

# --- staging there: one long read instead of thousands of short ones. What is not copied is linked, so all is in one place -----
stage() {
  local shared=${YOLOPERF_DATA:-$PWD/datasets} own=$SLURM_TMPDIR/yoloperf-data item name
  [ -d "$shared" ] && mkdir -p "$own" || return 0
  for item in "$shared"/* "$shared/../weights"; do
    name=${item##*/}
    [ -e "$item" ] && [ ! -e "$own/$name" ] || continue
    case " ${YOLOPERF_STAGE:-} " in
      *" $name "*)
        if mkdir -p "$own/.part" && (set -o pipefail; tar -C "$shared" --exclude .yoloperf -cf - "$name" | tar -C "$own/.part" -xf -); then
          mv "$own/.part/$name" "$own/$name"
          continue
        fi
        echo "env.sh: $name does not fit into $own, so it is read from $shared" >&2 ;;
    esac
    ln -s "$(realpath "$item")" "$own/$name"
  done
  rm -rf "$own/.part"
  export YOLOPERF_DATA=$own
}
if [ -n "${SLURM_TMPDIR:-}" ]; then stage; fi
