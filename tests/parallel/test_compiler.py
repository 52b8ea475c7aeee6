import pytest

from vit_jax.errors import BadSetting
from vit_jax.parallel import PRESETS, CompilerSettings, check_compiler


@pytest.mark.parametrize("preset", PRESETS)
def test_this_xla_knows_the_options_of_every_preset(preset):
    settings = CompilerSettings(preset)
    assert settings.resolved().keys() == PRESETS[preset].keys()
    check_compiler(settings)


def test_own_options_come_after_the_preset():
    own = CompilerSettings("gpu_overlap", "xla_gpu_enable_latency_hiding_scheduler=False, xla_cpu_max_isa=AVX2")
    found = own.resolved()
    assert found["xla_gpu_enable_latency_hiding_scheduler"] is False
    assert found["xla_cpu_max_isa"] == "AVX2"
    assert found["xla_gpu_enable_while_loop_double_buffering"] is True
    check_compiler(own)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("xla_nonsense=1", "No such compile option: 'xla_nonsense'"),
        ("xla_gpu_enable_triton_gemm=perhaps", "'perhaps' is not a valid bool value"),
    ],
)
def test_what_xla_does_not_know_is_refused_by_name(options, said):
    with pytest.raises(BadSetting, match=f"config.compiler.options = '{options}': the compiler of jax .*{said}"):
        check_compiler(CompilerSettings(options=options))


@pytest.mark.parametrize("options", ["x", "=1", "xla_a=1,xla_b", "xla_a="])
def test_what_is_no_option_is_refused(options):
    with pytest.raises(BadSetting, match="write name=value"):
        CompilerSettings(options=options)


def test_a_preset_that_is_none_is_refused():
    with pytest.raises(BadSetting, match="preset = 'fast': must be one of none, gpu_overlap, gpu_one"):
        CompilerSettings("fast")
