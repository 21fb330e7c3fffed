--- gaps.lua: does the editor stutter while the model works? A 5 ms timer tells.
---
---   MODEL=file.gguf [THREADS=n] nvim --headless --clean --cmd 'set rtp^=.' -u tests/bench/gaps.lua
---
--- Phases: idle (nothing of the plugin is loaded), load, prefill of about 1,000 tokens, decode, and
--- leaving the model again. For each phase it prints the largest and the 99th percentile of the
--- time between two ticks, and how many ticks there were. The largest gap of `idle` is what this
--- machine does by itself. Exit status 1 when a gap above 25 ms is seen in a phase of the plugin.

local TICK_MS, LIMIT_MS = 5, 25

vim.opt.runtimepath:prepend(vim.fn.getcwd())
vim.o.swapfile = false
vim.g.gemma = {
  model_path = assert(vim.env.MODEL, 'MODEL=file.gguf is missing'),
  lib_path = (vim.env.BUILD or 'build') .. '/libgemma.so',
  threads = tonumber(vim.env.THREADS),
  load = 'manual',
  completion = { auto = true },
}

local gaps, last, phase = {}, nil, nil
local bad = false

local timer = assert(vim.uv.new_timer())

--- Ends the phase before, with its numbers.
---@param name string? of the next one
local function enter(name)
  if phase then
    table.sort(gaps)
    local p99, max = gaps[math.max(1, math.floor(#gaps * 0.99))] or 0, gaps[#gaps] or 0
    bad = bad or (phase ~= 'idle' and max > LIMIT_MS)
    local row = '%-8s %6d ticks  p99 %6.1f ms  largest %6.1f ms\n'
    io.stdout:write(row:format(phase, #gaps, p99, max))
    io.stdout:flush()
  end
  gaps, last, phase = {}, nil, name
end

local function finish()
  enter(nil)
  timer:stop()
  vim.cmd(bad and 'cquit 1' or 'qall!')
end

---@param text string
local function fail(text)
  io.stdout:write('gaps: ' .. text .. '\n')
  io.stdout:flush()
  vim.cmd('cquit 1')
end

local function decode()
  local begun = false
  -- About three characters to a token in code.
  local prompt = ('local value = compute(input, 42)\n'):rep(90)
  require('gemma').ask({
    prompt = prompt,
    max_tokens = tonumber(vim.env.N) or 32,
    on_token = function()
      if not begun then
        begun = true
        enter('decode')
      end
    end,
    on_done = function(text, info)
      if not text then
        return fail(tostring(info))
      end
      enter('unload')
      require('gemma').unload()
      vim.defer_fn(finish, 500)
    end,
  })
end

timer:start(0, TICK_MS, function()
  local now = vim.uv.hrtime() / 1e6
  if last and phase then
    gaps[#gaps + 1] = now - last
  end
  last = now
end)

vim.api.nvim_create_autocmd('VimEnter', {
  once = true,
  callback = function()
    enter('idle')
    vim.defer_fn(function()
      enter('load')
      require('gemma').load(function(err)
        if err then
          return fail(err)
        end
        enter('prefill')
        decode()
      end)
    end, 2000)
  end,
})
