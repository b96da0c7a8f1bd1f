#!/bin/sh
# Train one of our models by timm's own script, on images of spectrograms.
#
#     sh examples/timm_train.sh TRAIN_PY [IMAGES] [OPTION...]
#
# TRAIN_PY is train.py of timm's repository (huggingface/pytorch-image-models); its package does not have it. IMAGES is a
# folder that examples/spectrogram_images.py wrote. Without one it is made from built-in sounds, as ./spectrogram-images. Options go
# to timm's script, such as --epochs 30 or --device cuda.
#
# A spectrogram is no photograph: no mirror, no crop, no change of colours. So --no-aug, and its own mean and deviation.
set -eu
[ $# -ge 1 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
script=$1
[ -f "$script" ] || { echo "$script: no such file; expected train.py of timm's repository" >&2; exit 2; }
shift
images=spectrogram-images
case ${1:--} in
-*) ;; # options only
*)
    images=$1
    shift
    [ -d "$images/train" ] || { echo "$images: no images; examples/spectrogram_images.py writes them" >&2; exit 2; }
    ;;
esac
python=${PYTHON:-python}
[ -d "$images/train" ] || "$python" "$(dirname "$0")/spectrogram_images.py" "$images"
classes=$(ls "$images/train" | wc -l | tr -d ' ')
exec "$python" -m specenhance.models.timm_names "$script" --model tfe4.mobilenetv3_small_050 --data-dir "$images" \
    --num-classes "$classes" --in-chans 1 --input-img-mode L --input-size 1 96 128 --mean 0.5 --std 0.25 --crop-pct 1 --no-aug \
    --opt adamw --lr 1e-3 --epochs 10 --warmup-epochs 0 --batch-size 32 --workers 0 --device cpu --output timm-runs "$@"
