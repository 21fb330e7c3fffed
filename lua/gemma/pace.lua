--- pace.lua: how eager ghost text is: the user's own rhythm, the machine's speed, battery, focus.
---
--- Owns a few numbers and nothing else; no timer runs here. Key times and measurements are given,
--- so that tests need no clock.

local config = require('gemma.config')
local power = require('gemma.power')

local M = {}

local KEPT = 20 -- intervals between keys that are averaged
local BURST_MS, PAUSE_MS = 15, 1000 -- shorter is a paste or a macro, longer is thinking
local SHORTEST, LONGEST = 100, 400 -- ms, of the delay on a CPU
local UNKNOWN = 150 -- ms, before enough keys have been seen
local ENOUGH = 5 -- intervals
local GPU_MS = 40
local SLOW_MS = 700 -- first characters later than this: manual
local QUICK_TOK_S = 20 -- from here on a key is read at once, without waiting for the delay
local LIVELY_TOK_S = 200 -- from here on 20 tokens, about a line, take no more than 100 ms
local SAMPLES = 3 -- answers that are measured before judging the speed

local intervals, next_slot = {}, 1
local last_key ---@type number?
local samples = 0
local slow = false
local told = false

--- A key changed the text.
---@param ms number time
function M.key(ms)
  local gap = last_key and ms - last_key
  last_key = ms
  if gap and gap >= BURST_MS and gap <= PAUSE_MS then
    intervals[next_slot] = gap
    next_slot = next_slot % KEPT + 1
  end
end

--- Mean time between two keys while the user types.
---@return number? ms nil: not known yet
function M.interval()
  if #intervals < ENOUGH then
    return nil
  end
  local sum = 0
  for _, v in ipairs(intervals) do
    sum = sum + v
  end
  return sum / #intervals
end

--- How long to wait after a key. On a CPU somewhat more than this user's usual time between keys:
--- a shorter wait would start an answer with every key and throw it away with the next. With a model
--- so small that a line costs next to nothing the CPU is as good as a GPU.
---@param gpu boolean
---@param tok_s number? tokens per second; 0 or nil: not measured
---@return integer ms
function M.delay(gpu, tok_s)
  local d = config.get().completion.delay
  if d == 'auto' then
    d = GPU_MS
    if not gpu and (tok_s or 0) < LIVELY_TOK_S then
      local mean = M.interval()
      d = mean and math.max(SHORTEST, math.min(LONGEST, 1.3 * mean)) or UNKNOWN
    end
  end
  if M.frugal() then
    d = d * 3
  end
  return math.floor(d)
end

--- After some answers it is known how fast this machine is with this model. Two steps of the
--- decoder (the new key, the first token) are what a keystroke waits for.
---@param tok_s number? tokens per second; 0 or nil: not measured
---@return string? message without its cure, the first time that ghost text becomes manual by it
function M.measured(tok_s)
  samples = samples + 1
  if samples < SAMPLES or not tok_s or tok_s <= 0 then
    return nil
  end
  slow = 2000 / tok_s > SLOW_MS
  if slow and not told and config.get().completion.auto == 'auto' then
    told = true
    return ('measured %.1f tok/s, so ghost text is manual.'):format(tok_s)
  end
end

--- Another model or device: what was measured does not hold any more.
function M.forget_speed()
  samples, slow = 0, false
end

--- Why nothing comes by itself, as far as speed, battery and focus go.
---@return string?
function M.manual_reason()
  local conf = config.get()
  local auto = conf.completion.auto
  if auto == false then
    return 'ghost text is manual (completion.auto).'
  elseif auto == 'auto' and slow then
    return 'the model is slow here, so ghost text is manual.'
  elseif conf.battery == 'manual' and power.on_battery() then
    return 'the machine runs on battery, so ghost text is manual (battery).'
  elseif not power.focused() then
    return 'the terminal does not have the focus.'
  end
end

--- Why nothing comes at all, not even when asked for.
---@return string?
function M.off_reason()
  if config.get().battery == 'off' and power.on_battery() then
    return 'the machine runs on battery, so ghost text is off (battery).'
  end
end

--- On battery with battery = 'slow': longer delay, one line, nothing ahead of time.
---@return boolean
function M.frugal()
  return config.get().battery == 'slow' and power.on_battery()
end

---@return integer
function M.max_lines()
  return M.frugal() and 1 or config.get().completion.max_lines
end

--- May a key be read before the user pauses? Where a step takes long it would heat the machine for
--- nothing while somebody types on.
---@param gpu boolean
---@param tok_s number?
---@return boolean
function M.reads_ahead(gpu, tok_s)
  return not M.frugal() and power.focused() and (gpu or (tok_s or 0) >= QUICK_TOK_S)
end

--- May the model work on what the user has not asked for yet? Only a GPU with nothing else to do.
---@param gpu boolean
---@return boolean
function M.may_prefetch(gpu)
  return gpu and power.focused() and not (config.get().battery ~= 'same' and power.on_battery())
end

return M
