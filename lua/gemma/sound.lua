--- sound.lua: a sound that is being recorded, which the model can hear while it grows.
---
--- While a sound has not ended, a request with it must have max_tokens 0 and only fills the cache:
--- everything up to the sound and what was heard of it so far. Ask about once a second with the
--- parts that the question will have; after finish() the question itself computes only the rest.

local errors = require('gemma.errors')
local jobs = require('gemma.jobs')

local M = {}

---@class gemma.Sound
---@field id integer
---@field package live boolean
---@field package of gemma.Binding
local Sound = {}
Sound.__index = Sound

--- Begins one. Its samples are signed 16-bit little-endian, channels interleaved.
---@param rate integer Hz, 1000 to 192000
---@param channels integer 1 to 8
---@return gemma.Sound?
---@return string? err
function M.create(rate, channels)
  local binding, why = jobs.open()
  if not binding then
    return nil, why
  end
  local id, err = binding:sound_create(rate, channels)
  if not id then
    return nil, err
  end
  return setmetatable({ id = id, live = true, of = binding }, Sound)
end

--- Whether the library that counts it is still the one in use: the next one counts anew.
---@return boolean
function Sound:lives()
  return self.live and self.of == jobs.binding()
end

--- Takes any number of bytes, also half a sample. False when the sound is over: it has ended, was
--- dropped, or is full (30 seconds; what fits was taken, the rest belongs into another sound).
---@param bytes string
---@return boolean taken
---@return string? err 'full', or one line
function Sound:append(bytes)
  if not self:lives() then
    return false, 'the sound is gone'
  end
  local rc = self.of:sound_append(self.id, bytes)
  if rc == 0 then
    return true
  end
  local name = errors.name(rc)
  return false, name == 'ETOOLONG' and 'full' or name == 'EINVAL' and 'the sound has ended' or name
end

--- Nothing more will come: from now on questions can be asked about it.
function Sound:finish()
  if self:lives() then
    self.of:sound_end(self.id)
  end
end

--- Gives the memory back. Requests that were submitted before still get their answer.
function Sound:drop()
  if self:lives() then
    self.of:sound_destroy(self.id)
  end
  self.live = false
end

return M
