rockspec_format = '3.0'
package = 'gemma.nvim'
version = 'scm-1'

source = {
  url = '.',
}

description = {
  summary = 'Gemma 4 12B inside Neovim: ghost text and answers from a model on your own machine',
  detailed = [[
One native library and one model file: completion while typing and explanations of a selection,
computed on a worker thread of the editor. No server; the network is used by :Gemma install alone.]],
  labels = { 'neovim', 'llm', 'completion' },
  license = 'Apache-2.0',
}

dependencies = {
  'lua == 5.1',
}

external_dependencies = {
  LIBUV = { header = 'uv.h', library = 'uv' },
}

build = {
  type = 'make',
  build_target = 'lib',
  build_variables = {
    CPPFLAGS = '-I$(LIBUV_INCDIR)',
    LDFLAGS = '-L$(LIBUV_LIBDIR)',
  },
  install_target = 'install-rock',
  install_variables = {
    LUADIR = '$(LUADIR)',
  },
  copy_directories = { 'plugin', 'doc', 'prompts' },
}
