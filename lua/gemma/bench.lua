--- bench.lua: :Gemma bench, how fast this machine reads and writes with this model.
---
--- One prompt that nothing in the cache can know, and an answer that does not end by itself. It
--- works on the cache of the answers, so that it needs no memory of its own.

local notify = require('gemma.notify')

local M = {}

local WORDS = 380 -- about 512 tokens
local WRITE = 32 -- tokens
local running = false

--- Text that no cache has seen: words in an order that depends on the seed.
---@param seed integer
---@param n integer words
---@return string
function M.text(seed, n)
  local words = vim.split('the cache holds what was read before and so a key costs one step', ' ')
  local out, x = { ('%d'):format(seed) }, seed % 2147483647
  for i = 1, n do
    x = (x * 16807 + 11) % 2147483647
    out[i + 1] = words[x % #words + 1]
  end
  return table.concat(out, ' ')
end

--- What was measured, in one line.
---@param info gemma.Done
---@param device string
---@return string
function M.report(info, device)
  local read = info.n_prompt - info.n_reused
  local function speed(n, ms)
    return ms > 0 and ('%.1f'):format(n * 1000 / ms) or '?'
  end
  -- The first token comes with the last chunk of the prompt and costs no step of its own.
  return ('reads %s, writes %s tokens per second (%d and %d tokens, %s).'):format(
    speed(read, info.prefill_ms),
    speed(info.n_generated - 1, info.decode_ms),
    read,
    info.n_generated,
    device
  )
end

--- :Gemma bench.
function M.command()
  local engine = require('gemma.engine')
  if running or engine.busy() then
    return notify.info('the model is busy; nothing was measured. Try again later.')
  end
  running = true
  local progress = require('gemma.progress').start('measuring', 'loading the model')
  local written = 0
  local function over(ok, text)
    running = false
    if ok then
      progress:done()
    else
      progress:fail('nothing was measured')
    end
    notify[ok and 'info' or 'warn'](text)
  end
  local function start(err)
    if err then
      return over(false, ('nothing was measured: %s'):format(err))
    end
    local job, why = engine.generate({
      parts = {
        { kind = 'user' },
        { kind = 'text', data = M.text(vim.uv.hrtime() % 2 ^ 31, WORDS) },
      },
      session = (require('gemma.chat.kept').task_session()),
      priority = 'ask',
      max_tokens = WRITE,
      ignore_eog = true,
      on_progress = function(done, total)
        progress:report(total > 0 and done * 80 / total or 0, 'reading')
      end,
      on_text = function()
        written = written + 1
        progress:report(math.min(80 + written * 20 / WRITE, 99), 'writing')
      end,
      on_done = function(info)
        over(true, M.report(info, (engine.numbers() or {}).device or '?'))
      end,
      on_error = function(e)
        over(false, ('nothing was measured: %s'):format(e.text))
      end,
    })
    if not job then
      over(false, ('nothing was measured: %s'):format(why))
    end
  end
  local ok, err = engine.load(start)
  if not ok then
    over(false, err --[[@as string]])
  end
end

return M
