--- :checkhealth gemma: each thing that can be wrong is named there, with what to do.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local function report(c)
  c:cmd('checkhealth gemma')
  local text = table.concat(c:lines(), '\n')
  h.ok(not text:find('Failed to run', 1, true), text)
  return text
end

test('health: names the versions, the encoding only when it is wrong', function()
  local c = h.child()
  local text = report(c)
  h.has(text, 'LuaJIT 2.1')
  h.ok(not text:find("'encoding'", 1, true))
end)

test('health: says whose Tab and whose keys, and which other plugin draws ghost text', function()
  local c = h.child({ config = [[
    vim.keymap.set('i', '<Tab>', 'x', { desc = 'my snippets' })
    vim.keymap.set('i', '<M-l>', 'x', { desc = 'my own' })
    package.loaded['minuet'] = {}
    package.loaded['blink.cmp.config'] = { completion = { ghost_text = { enabled = true } } }
    package.loaded['cmp.config'] = { get = function() return { experimental = { ghost_text = false } } end }
    vim.g.loaded_llama = 1]] })
  local text = report(c)
  for _, want in ipairs({ '<Tab> is never mapped by this plugin; it belongs to my snippets',
    '<M-l> is taken: my own', 'minuet is loaded too', 'llama.vim is loaded too',
    'ghost text of blink.cmp is loaded too' }) do
    h.has(text, want)
  end
  h.ok(not text:find('nvim%-cmp is loaded'), 'it shows none')
end)

test('health: where the model computes, and that a GPU which was asked for is missing', function()
  local c = h.child({ config = "vim.g.gemma = { device = 'vulkan' }" })
  h.has(report(c), 'device: vulkan; :Gemma load shows what it comes to')
  c:cmd('bwipeout!')
  c:lua([[local status = Fake.binding.status
    Fake.binding.status = function(self)
      return vim.tbl_extend('force', status(self), { device = 'cpu avx2', device_note = 'Vulkan has no GPU' })
    end
    require('gemma').load()]])
  c:wait("require('gemma.engine').is_loaded()")
  h.has(report(c), 'WARNING device: vulkan, computing on cpu avx2; Vulkan has no GPU')
  c:cmd('bwipeout!')
  c:lua("require('gemma.engine').device = 'auto'")
  h.has(report(c), 'OK device: auto, computing on cpu avx2; Vulkan has no GPU')
end)

test('health: the self-test writes one token without keeping the report', function()
  local c = h.child()
  h.has(report(c), 'self-test: the model is not loaded. :Gemma load')
  c:cmd('bwipeout!')
  c:insert_at('x = |')
  c:wait("require('gemma.engine').state == 'ready'")
  c:feed('<Esc>')
  h.has(report(c), 'self-test: running')
  h.eq(c:lua('return Fake.jobs[#Fake.jobs].req.max_tokens'), 1)
  c:lua("Fake.emit('yes') Fake.done()")
  -- What the model took: in a report about everything, other plugins' checks were counted too.
  c:wait("not table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, false)):find('self%-test: running')")
  h.has(table.concat(c:lines(), '\n'), 'self-test: 1 token in 30 ms')
  h.eq(c:lua('return vim.bo.modified'), false)
end)

test('health: a failed self-test is named', function()
  local c = h.child()
  c:insert_at('x = |')
  c:wait("require('gemma.engine').state == 'ready'")
  c:feed('<Esc>')
  report(c)
  c:lua("Fake.fail(-5, 'the GPU was lost')")
  c:wait("table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, false)):find('self%-test failed: the GPU was lost')")
end)

test('health: GPU work that killed the last session, also without a model', function()
  local c = h.child({ config = [[
    local path = require('gemma.sentinel').path()
    vim.fn.mkdir(vim.fs.dirname(path), 'p')
    vim.fn.writefile({ '999999999 vulkan' }, path)
    vim.fn.delete(vim.fn.stdpath('data') .. '/gemma', 'rf')]] })
  h.has(report(c), 'Neovim ended during GPU work last time')
end)

test('health: where a loaded model computes, why not elsewhere, and what there is', function()
  local c = h.child()
  c:insert_at('x = |')
  c:wait("require('gemma.engine').state == 'ready'")
  c:feed('<Esc>')
  c:lua([[
    Fake.status_device = 'vulkan Arc (20 of 48 layers)'
    Fake.device_note = '4096 MiB of the device\'s memory hold 20 of 48 layers'
    Fake.devices = 'vulkan:0 Arc, vulkan:1 llvmpipe']])
  local text = report(c)
  h.has(text, "device: auto, computing on vulkan Arc (20 of 48 layers); 4096 MiB of the device's memory hold")
  h.has(text, 'devices: vulkan:0 Arc, vulkan:1 llvmpipe')
  h.has(c:lua("return vim.inspect(require('gemma.command').status_lines())"), 'of vulkan:0 Arc, vulkan:1 llvmpipe')
end)

local DECODES = "OK FFmpeg's libraries: all kinds of pictures, sounds and films"

test("health: whether FFmpeg's libraries are there is asked of our own", function()
  local config = ('vim.g.gemma = { lib_path = %q }'):format(h.need_library())
  local c = h.child({ fake = false, config = config })
  local text = report(c)
  local missing = c:lua("return require('gemma.ffi').media_missing() or false")
  h.has(text, missing and 'WARNING ' .. missing or DECODES)
end)

test("health: FFmpeg's libraries that are missing are named, with what goes without them", function()
  local c = h.child()
  c:lua([[local ffi = require('gemma.ffi')
    ffi.problem = function() end
    ffi.about = function() return { path = '/some/libgemma.so', version = '0', abi = 1, cpu = 'some' } end
    ffi.media_missing = function() return "FFmpeg's libraries are missing; install ffmpeg" end]])
  local text = report(c)
  h.has(text, "WARNING FFmpeg's libraries are missing; install ffmpeg")
  h.has(text, 'Without it PNG and WAV are read, nothing else')
  h.ok(not text:find(DECODES, 1, true))
  c:cmd('bwipeout!')
  c:lua("require('gemma.ffi').media_missing = function() end")
  h.has(report(c), DECODES)
end)

test('health: one thing is not called several', function()
  local c = h.child()
  c:lua([[require('gemma.context.project').stats = function() return { chunks = 1, edits = 2 } end]])
  local text = report(c)
  h.has(text, 'kept for prompts: 1 piece of other files, 2 edits')
  h.has(text, '1 model in ')
end)

test('health: what the model reads: notes that are not trusted, an excluded file', function()
  local c = h.child()
  c:lua([[
    require('gemma.completion').setup()
    vim.fn.writefile({ 'Use tabs.' }, '.gemma.md')
    vim.fn.writefile({ 'x = 1' }, 'a.lua')
    vim.cmd('edit a.lua')]])
  h.has(report(c), '.gemma.md is not trusted, so it is not used')
  c:lua([[
    vim.cmd('bwipeout!')
    vim.fn.writefile({ 'A=1' }, '.env')
    vim.o.hidden = true
    vim.cmd('edit .env')]])
  h.has(report(c), '.env is excluded (exclude list)')
end)

return T
