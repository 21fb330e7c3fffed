--- power.lua: does the machine run on battery, and is the editor in front?
---
--- The battery is read from the kernel's files, asynchronously, when somebody begins to type and
--- the last look is old. Nothing is polled. Where there are no such files (other systems), the
--- answer is "not on battery".
---
--- The terminal tells when the editor gets the focus and when it loses it. Some terminals forget to
--- tell that it is back; so somebody who types corrects it (set_focus).

local M = {}

local uv = vim.uv

local FRESH_MS = 30000

--- Where the kernel shows batteries and chargers. Tests have their own.
M.root = '/sys/class/power_supply'

local battery = false
local looked ---@type number? ms of the last look
local looking = false
local focus = true
local focus_hooks = {} ---@type fun()[]

---@return boolean
function M.on_battery()
  return battery
end

---@return boolean
function M.focused()
  return focus
end

---@param yes boolean
function M.set_focus(yes)
  if focus == yes then
    return
  end
  focus = yes
  for _, fn in ipairs(focus_hooks) do
    fn()
  end
end

--- fn is called whenever the editor gets the focus or loses it.
---@param fn fun()
function M.on_focus(fn)
  focus_hooks[#focus_hooks + 1] = fn
end

vim.api.nvim_create_autocmd({ 'FocusGained', 'FocusLost' }, {
  group = vim.api.nvim_create_augroup('gemma.power', {}),
  callback = function(ev)
    M.set_focus(ev.event == 'FocusGained')
  end,
})

--- The first line of a small file; nil when there is none.
---@param path string
---@param done fun(text: string?)
local function read_line(path, done)
  uv.fs_open(path, 'r', 0, function(err, fd)
    if err or not fd then
      return done(nil)
    end
    uv.fs_read(fd, 64, 0, function(_, text)
      uv.fs_close(fd, function() end)
      done(text and text:match('^[^\n]*'))
    end)
  end)
end

--- Is this supply a battery of the machine (not of a mouse) that is being emptied?
---@param dir string
---@param done fun(yes: boolean)
local function discharging(dir, done)
  read_line(dir .. '/type', function(kind)
    if kind ~= 'Battery' then
      return done(false)
    end
    read_line(dir .. '/scope', function(scope)
      if scope == 'Device' then
        return done(false)
      end
      read_line(dir .. '/status', function(status)
        done(status == 'Discharging')
      end)
    end)
  end)
end

---@param yes boolean
---@param done fun()?
local function looked_at(yes, done)
  vim.schedule(function()
    battery, looking = yes, false
    if done then
      done()
    end
  end)
end

--- Looks again when the last look is old. Returns at once; done() is called when the answer is
--- there, or never when it is fresh.
---@param done fun()?
function M.refresh(done)
  local now = uv.hrtime() / 1e6
  if looking or (looked and now - looked < FRESH_MS) then
    return
  end
  looking, looked = true, now
  uv.fs_scandir(M.root, function(err, dir)
    local names = {}
    local name = not err and dir and uv.fs_scandir_next(dir) or nil
    while name do
      names[#names + 1] = name
      name = uv.fs_scandir_next(dir --[[@as uv.uv_fs_t]])
    end
    local left, yes = #names, false
    if left == 0 then
      return looked_at(false, done)
    end
    for _, n in ipairs(names) do
      discharging(M.root .. '/' .. n, function(empties)
        yes = yes or empties
        left = left - 1
        if left == 0 then
          looked_at(yes, done)
        end
      end)
    end
  end)
end

--- The next refresh() looks, however fresh the last look is.
function M.forget()
  looked = nil
end

return M
